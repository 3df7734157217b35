#!/bin/sh
# Starts Wardgate with the Python that lies beside it; nothing of the host's own Python is used.
program=$(readlink -f -- "$0")
root=${program%/bin/*}
# The certificates of the host: the OpenSSL inside knows Debian's place for them only.
if [ -z "${SSL_CERT_FILE:-}" ] && [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
    for bundle in /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
        if [ -e "$bundle" ]; then
            export SSL_CERT_FILE="$bundle"
            break
        fi
    done
fi
# What takes over in an upgrade: what lies at this path by then.
export WARDGATE_PROGRAM="$0"
exec "$root/python/bin/python3" -I -m wardgate.cli.main "$@"
