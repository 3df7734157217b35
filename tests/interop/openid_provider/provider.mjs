// An OpenID provider as the tests need it: what it is comes as JSON in its first argument, and it says "ready" once it
// answers. Everybody's password is accepted; a person is known by the name that is typed.
import { createServer } from "node:https";
import { readFileSync } from "node:fs";

const options = JSON.parse(process.argv[2]);
const now = Date.now.bind(Date);
Date.now = () => now() + options.skewMs;

const { Provider } = await import("oidc-provider");

const provider = new Provider(options.issuer, {
  clients: options.clients,
  jwks: options.jwks,
  cookies: { keys: ["tests"] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
  conformIdTokenClaims: false,
  features: { devInteractions: { enabled: true } },
  clockTolerance: 5,
  ttl: { IdToken: 60 },
  pkce: { required: () => true },
  async findAccount(_context, id) {
    const claims = options.people[id];
    return claims && { accountId: id, claims: async () => ({ sub: id, ...claims }) };
  },
});

createServer({ cert: readFileSync(options.certificate), key: readFileSync(options.key) }, provider.callback()).listen(
  options.port,
  "127.0.0.1",
  () => console.log("ready"),
);
