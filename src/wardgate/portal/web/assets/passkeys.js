"use strict";
// Passkeys (WebAuthn): a form with `data-passkey` asks the authenticator first, and then sends what it answered.
(() => {
  const fromText = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  const asText = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const withBytes = (known) => known.map((one) => ({ ...one, id: fromText(one.id) }));

  async function ask(ceremony, options) {
    options.challenge = fromText(options.challenge);
    if (ceremony === "create") {
      options.user.id = fromText(options.user.id);
      options.excludeCredentials = withBytes(options.excludeCredentials ?? []);
      return navigator.credentials.create({ publicKey: options });
    }
    options.allowCredentials = withBytes(options.allowCredentials ?? []);
    return navigator.credentials.get({ publicKey: options });
  }

  function asJson(credential) {
    const { response } = credential;
    const sent = { clientDataJSON: asText(response.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (response[name]) sent[name] = asText(response[name]);
    }
    return JSON.stringify({ id: credential.id, rawId: asText(credential.rawId), type: credential.type, response: sent, clientExtensionResults: {} });
  }

  function say(form, text) {
    const place = form.querySelector("[data-passkey-error]");
    place.textContent = text;
    place.hidden = false;
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-passkey]")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!window.PublicKeyCredential) return say(form, "This browser knows no passkeys here. Use another way.");
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      form.elements.credential.value = asJson(await ask(form.dataset.passkey, JSON.parse(form.dataset.options)));
      form.submit();
    } catch (error) {
      button.disabled = false;
      say(form, error.name === "InvalidStateError" ? "This passkey is set up already." : "No passkey was used. Try again, or use another way.");
    }
  }, true);
})();
