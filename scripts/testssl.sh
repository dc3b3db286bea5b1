#!/usr/bin/env bash
# testssl.sh WEIR
# Runs testssl.sh on a listener that has only certificates. The exit status is 1 if a finding is above LOW. Some findings are ignored:
# trust and revocation, because the authority is a test authority; HSTS, which is the operator's choice; and fields like
# Content-Security-Policy, which belong to the application.
set -euo pipefail

weir=$(realpath "$1")
folder=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$folder"' EXIT
cd "$folder"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=Test CA" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem 2>openssl.log
issue() { # NAME KEYOPTIONS...
    openssl req "${@:2}" -nodes -subj "/CN=localhost" -keyout "$1.key" -out "$1.csr" 2>>openssl.log
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days 90 -out "$1.pem" 2>>openssl.log -extfile <(
        printf 'subjectAltName=DNS:localhost\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n')
}
issue ecdsa -newkey ec -pkeyopt ec_paramgen_curve:P-256
issue rsa -newkey rsa:2048

cat >weir.yaml <<'YAML'
listeners:
  - name: https
    address: "127.0.0.1:0"
    tls: { certificates: [{ cert: ecdsa.pem, key: ecdsa.key }, { cert: rsa.pem, key: rsa.key }] }
routes: [{ respond: { status: 200, body: "here\n" } }]
YAML
: >weir.log
"$weir" run -c weir.yaml 2>weir.log &
pid=$!
for _ in {1..100}; do
    address=$(sed -n 's/^listening https //p' weir.log)
    [ -n "$address" ] && break
    sleep 0.1
done
[ -n "$address" ] || { cat weir.log >&2; exit 1; }

testssl --quiet --color 0 --warnings batch --add-ca ca.pem --jsonfile found.json --ip 127.0.0.1 \
    "localhost:${address##*:}" >said.txt || true
cat said.txt
python3 - <<'PYTHON'
import json
LEFT_OUT = ("cert_trust", "cert_chain_of_trust", "cert_revocation", "cert_ocspRevoked", "cert_crlRevoked", "OCSP", "HSTS",
            "security_headers")
found = json.load(open("found.json"))
asked = [each for each in found if each["severity"] not in ("DEBUG", "INFO", "WARN")]
assert len(asked) > 50, f"only {len(asked)} findings: it did not run to its end"
above = [each for each in found if each["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
counted = [each for each in above if not each["id"].startswith(LEFT_OUT)]
for each in above:
    print(("" if each in counted else "left out: ") + f"{each['severity']} {each['id']}: {each['finding']}")
print(f"testssl: {len(found)} findings, {len(counted)} above LOW")
raise SystemExit(1 if counted else 0)
PYTHON
