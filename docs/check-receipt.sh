#!/usr/bin/env bash
# Checks a receipt with openssl (3.0 or newer), jq (1.6 or newer) and the usual GNU tools: no code of Legation takes part.
#
#   docs/check-receipt.sh RECEIPT ANCHORS [AMD-CERTIFICATES.pem]
#
# One line for each statement, then the verdict. Exit code 0: the receipt is valid; 1: it is not; 2: wrong usage, or a tool is
# missing. Statements by production enclaves need AMD's ARK and ASK as the third argument; nothing else is ever trusted but
# what stands in ANCHORS. docs/receipt.md explains each step and says what `legation receipt verify` checks beyond these.
set -euo pipefail
export LC_ALL=C

[ $# = 2 ] || [ $# = 3 ] || { echo "usage: $0 RECEIPT ANCHORS [AMD-CERTIFICATES.pem]" >&2; exit 2; }
receipt=$1 anchors=$2 amd=${3:-}
for tool in openssl jq sha256sum base64 od cmp stat; do
    command -v "$tool" >/dev/null || { echo "$0: needs $tool" >&2; exit 2; }
done
for file in "$receipt" "$anchors" ${amd:+"$amd"}; do
    [ -f "$file" ] && [ -r "$file" ] || { echo "$0: cannot read $file, or it is no plain file" >&2; exit 2; }
done

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp"/{envelope,payload,key,evidence}

plain() { printf '%s' "${1//[^[:print:]]/?}"; } # for terminals: whoever made the receipt chose some of these texts
invalid() { # the whole file
    echo "receipt INVALID at the file: $(plain "$*")"
    exit 1
}
hex() { od -An -v -tx1 "$@" | tr -d ' \n'; }
unhex() { # hexadecimal digits to bytes
    local text=$1 out=
    while [ -n "$text" ]; do out+="\\x${text:0:2}" text=${text:2}; done
    printf '%b' "$out"
}
decode() { # TEXT FILE: base64 in its one spelling
    base64 -d <<<"$1" >"$2" 2>/dev/null && [ "$(base64 -w0 "$2")" = "$1" ]
}

# --- 0. Its size: nothing here would end on a file without one, nor soon on a huge one. --------------------------------------------
bytes=$(stat -L -c %s "$receipt")
[ "$bytes" -le 67108864 ] || invalid "it has $bytes bytes, and may have at most 67108864"
bytes=$(stat -L -c %s "$anchors")
[ "$bytes" -le 4194304 ] || invalid "the anchors have $bytes bytes, and may have at most 4194304"

# --- 1. The file: one spelling, so that a change of any byte is a change of content. -----------------------------------------
jq -c . "$anchors" >/dev/null 2>&1 || invalid "the anchors are not JSON"
jq -c . "$receipt" 2>/dev/null | cmp -s - "$receipt" || invalid "not compact JSON that ends with one newline"
# jq reads what shell variables cannot hold; the shape below is exact, so the rest of the script need not ask again.
jq -e '
    def hex: type == "string" and test("^[0-9a-f]{64}\\z");
    def text: type == "string" and test("^[A-Za-z0-9+/]*={0,2}\\z");
    def has_fields($names): type == "object" and keys_unsorted == $names;
    ["version", "task", "revocations", "roots", "envelopes", "evidence"] as $fields
    | (keys_unsorted - $fields) as $more
    | has_fields($fields + $more) and $more == (["collateral", "proofs", "log"] | map(select(. as $name | $more | index($name) != null)))
    and (.log // {} | type == "object") # docs/check-log.sh checks that
    and ((has("collateral") | not) or (.collateral | type == "array" and length >= 1 and all(
        has_fields(["name", "bytes"]) and (.name | type == "string") and (.bytes | text))))
    and ((has("proofs") | not) or (.proofs | type == "array" and length >= 1 and length <= 64 and all(
        has_fields(["statement", "proof"]) and (.statement | type == "object") and (.proof | text)))) # judged by nothing here
    and .version == "legation-receipt/v1" and (.task | hex)
    and (.revocations | type == "number" and (tostring | test("^[0-9]+\\z")))
    and (.roots | type == "array" and length > 0 and all(hex))
    and (.envelopes | type == "array" and length > 0 and all(
        has_fields(["payloadType", "payload", "signatures"])
        and .payloadType == "application/vnd.in-toto+json" and (.payload | text)
        and (.signatures | type == "array" and length == 1)
        and (.signatures[0] | has_fields(["keyid", "sig"]) and (.keyid | hex) and (.sig | text))))
    and (.evidence | type == "array" and all(
        (has_fields(["kind", "report", "endorsements", "binding", "configuration"])
            or has_fields(["kind", "report", "endorsements", "devices", "binding", "configuration"]))
        and ([.report, .binding, .configuration] | all(text)) and (.endorsements | type == "array" and all(text))))
' "$receipt" >/dev/null 2>&1 || invalid "not of the form of a legation-receipt/v1"

# --- 2. Open the envelopes: payloads, and the digest that names each in `prev`. --------------------------------------------------
count=0
keyid=() digest=() kind=() named=() fault=()
while IFS=$'\t' read -r payload id signature; do
    n=$(printf '%06d' "$count")
    decode "$payload" "$tmp/payload/$n" || invalid "payload $count is not canonical base64"
    decode "$signature" "$tmp/envelope/$n.sig" || invalid "signature $count is not canonical base64"
    printf '{"payloadType":"application/vnd.in-toto+json","payload":"%s","signatures":[{"keyid":"%s","sig":"%s"}]}' \
        "$payload" "$id" "$signature" >"$tmp/envelope/$n.json"
    keyid[count]=$id
    fault[count]=
    count=$((count + 1))
done < <(jq -r '.envelopes[] | [.payload, .signatures[0].keyid, .signatures[0].sig] | @tsv' "$receipt")
mapfile -t digest < <(find "$tmp/envelope" -name '*.json' | sort | xargs sha256sum | cut -c1-64)

# Every payload is exactly one JSON object, in which no name stands twice (jq would take the last, others the first).
(cd "$tmp/payload" && find . -name '??????' | sort | xargs jq -c '[input_filename[2:], .]') >"$tmp/opened" 2>/dev/null ||
    invalid "a payload is not JSON"
[ "$(jq -r 'select(.[1] | type == "object") | .[0]' "$tmp/opened")" = "$(cd "$tmp/payload" && find . -name '??????' | sort | cut -c3-)" ] ||
    invalid "a payload is not one JSON object"
leaves=$(jq -n 'reduce (inputs[1] | tostream | select(length == 2)) as $leaf (0; . + 1)' "$tmp/opened")
seen=$(cd "$tmp/payload" && find . -name '??????' | sort | xargs jq -c --stream 'select(length == 2) | 1' | wc -l)
[ "$leaves" = "$seen" ] || invalid "a payload says something twice"

# The statement type and the key that must have signed: the one that the predicate names for its office.
jq -r '.[1] | (.predicateType // "" | tostring | capture("^https://legation\\.dev/(?<kind>[a-z]+)/v1\\z").kind // "unknown") as $kind
    | [$kind, (.predicate | {appointment: .operator, passport: .verifier, request: .client, allocation: .manager,
        grant: .issuer, call: .delegator, report: .enclave, aggregate: .enclave, seating: .manager, membership: .enclave}[$kind] // "" | tostring)] | @tsv' \
    "$tmp/opened" >"$tmp/signers" 2>/dev/null || invalid "a statement without a predicate of ours"
while IFS=$'\t' read -r what key; do
    kind+=("$what") named+=("$key")
done <"$tmp/signers"
[ "${#kind[@]}" = "$count" ] || invalid "a statement without a predicate of ours"

# --- 3. Signatures: Ed25519 over DSSE's pre-authentication encoding; a key's name is the SHA-256 of its SPKI (RFC 8410). -----------
declare -A name_of=() file_of=()
learn_key() { # remembers the name and the DER file of a public key; fails where the text is none
    local key=$1 file
    [ -n "${name_of[$key]:-}" ] && return
    [[ $key =~ ^[A-Za-z0-9+/]{43}=$ ]] && decode "$key" "$tmp/raw" && [ "$(wc -c <"$tmp/raw")" = 32 ] || return 1
    file=$tmp/key/${#name_of[@]}
    { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00' && cat "$tmp/raw"; } >"$file"
    file_of[$key]=$file
    name_of[$key]=$(sha256sum <"$file" | cut -c1-64)
}
for ((i = 0; i < count; i++)); do
    n=$(printf '%06d' "$i") key=${named[i]}
    if [ "${kind[i]}" = unknown ]; then
        fault[i]="no kind of statement known here"
    elif ! learn_key "$key"; then
        fault[i]="the key it names is no Ed25519 key"
    elif [ "${name_of[$key]}" != "${keyid[i]}" ]; then
        fault[i]="signed by key ${keyid[i]:0:12}, expected ${name_of[$key]:0:12}"
    else
        { printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c <"$tmp/payload/$n")" && cat "$tmp/payload/$n"; } >"$tmp/pae"
        openssl pkeyutl -verify -pubin -keyform DER -inkey "${file_of[$key]}" -rawin -in "$tmp/pae" \
            -sigfile "$tmp/envelope/$n.sig" >/dev/null 2>&1 || fault[i]="its signature is not by ${keyid[i]:0:12}"
    fi
done
# Keys that statements name beside their signers: appointed keys and the enclaves in passports.
while read -r key; do learn_key "$key" || true; done < <(jq -r '.[1].predicate | .key?, .enclave? | strings' "$tmp/opened" | sort -u)

# --- 4. Evidence: what stands behind each passport. ------------------------------------------------------------------------------
declare -A evidence_at=()
evidence_count=0
while IFS= read -r line; do
    printf '%s' "$line" >"$tmp/evidence/$evidence_count.json"
    name=$(sha256sum <"$tmp/evidence/$evidence_count.json" | cut -c1-64)
    [ -z "${last:-}" ] || [[ $last < $name ]] || invalid "evidence is not in ascending order of its digests, each once"
    evidence_at[$name]=$evidence_count last=$name
    evidence_count=$((evidence_count + 1))
done < <(jq -c '.evidence[]' "$receipt")

# Certificates and lists that passports name: the SHA-256 of the length of the name (8 bytes), the name, and the bytes.
collateral=() last=
while IFS=$'\t' read -r called body; do
    decode "$called" "$tmp/called" && decode "$body" "$tmp/item" || invalid "collateral is not canonical base64"
    name=$({ unhex "$(printf '%016x' "$(wc -c <"$tmp/called")")" && cat "$tmp/called" "$tmp/item"; } | sha256sum | cut -c1-64)
    [ -z "$last" ] || [[ $last < $name ]] || invalid "collateral is not in ascending order of its digests, each once"
    collateral+=("$name") last=$name
done < <(jq -r '.collateral // [] | .[] | [(.name | @base64), .bytes] | @tsv' "$receipt")

field() { jq -r "$2" "$tmp/evidence/$1.json"; }
bytes() { hex -j "$1" -N "$2" "$tmp/report"; } # OFFSET LENGTH: of the report, as hexadecimal digits
reversed() {
    local text=$1 out=
    while [ -n "$text" ]; do out=${text:0:2}$out text=${text:2}; done
    printf '%s' "$out"
}
integer() { # a DER INTEGER of a big-endian number
    local text=$1
    while [ "${text:0:2}" = 00 ] && [ ${#text} -gt 2 ]; do text=${text:2}; done
    [[ ${text:0:1} =~ [0-7] ]] || text=00$text
    printf '02%02x%s' $((${#text} / 2)) "$text"
}
check_evidence() { # PASSPORT-INDEX EVIDENCE-INDEX: says what is wrong, or nothing
    local p=$1 e=$2 issued body r s vcek root chip anchor
    issued=$(jq -r '.predicate.issued' "$p")
    [ "$(field "$e" '(.endorsements | length | . == 1 or . == 2) and (has("devices") | not)')" = true ] ||
        { echo "its certificates or devices are not those of a chip by AMD alone: not checked here"; return; }
    for part in report binding configuration; do decode "$(field "$e" ".$part")" "$tmp/$part" || { echo "$part is not base64"; return; }; done
    [ "$(wc -c <"$tmp/report")" = 1184 ] || { echo "the report has not 1184 bytes"; return; }

    # What the report binds: REPORT_DATA = SHA-512("legation-key-v1" || binding), and the binding carries the configuration.
    [ "$(bytes 80 64)" = "$({ printf 'legation-key-v1' && cat "$tmp/binding"; } | sha512sum | cut -c1-128)" ] ||
        { echo "the report does not bind the keys"; return; }
    jq -e --slurpfile passport "$p" --slurpfile configuration "$tmp/configuration" --arg digest "$(sha256sum <"$tmp/configuration" | cut -c1-64)" '
        $passport[0].predicate as $p | .identity == $p.enclave and .sealing == $p.sealing and .role == "agent"
        and .configuration == $digest and $configuration == [$p.configuration]
        and .not_before <= $p.issued and $p.expires <= .not_after
    ' "$tmp/binding" >/dev/null 2>&1 || { echo "the bound keys or configuration are not those of the passport"; return; }

    # What the report says of the machine (SEV-SNP firmware ABI, 56860), beside what the passport claims.
    [ "$(bytes 52 4)" = 01000000 ] || { echo "SIGNATURE_ALGO is not ECDSA P-384 with SHA-384"; return; }
    jq -e --arg measurement "$(bytes 144 48)" --arg data "$(bytes 80 64)" --argjson vmpl "$((16#$(reversed "$(bytes 48 4)")))" \
        --argjson debug "$([ $((16#$(bytes 10 1) & 8)) = 0 ] && echo false || echo true)" \
        --arg kind "$(field "$e" .kind)" '.predicate.claims | .measurement.value == $measurement and .report_data == $data
        and .vmpl.value == $vmpl and .debug.value == $debug and .tee.value == $kind' "$p" >/dev/null ||
        { echo "the passport claims something else than its report says"; return; }

    # Who signed it: the chip's key, certified by a root of the anchors at the time of the passport.
    vcek=$tmp/vcek.pem root=$tmp/root.pem
    decode "$(field "$e" '.endorsements[0]')" "$tmp/der" && openssl x509 -inform DER -in "$tmp/der" -out "$vcek" 2>/dev/null ||
        { echo "no certificate of the chip's key"; return; }
    : >"$tmp/middle.pem"
    if [ "$(field "$e" '.endorsements | length')" = 2 ]; then
        decode "$(field "$e" '.endorsements[1]')" "$tmp/der" && openssl x509 -inform DER -in "$tmp/der" -out "$tmp/middle.pem" 2>/dev/null ||
            { echo "no intermediate certificate"; return; }
    fi
    anchor=$(jq -r '.predicate.claims.anchor | "\(.kind) \(.name)"' "$p")
    case "$(field "$e" .kind) $anchor" in
    "dev-snp development "*)
        decode "$(jq -r --arg name "${anchor#development }" '.development // [] | map(select(.name == $name)) | if length == 1 then .[0].ark else "" end' "$anchors")" "$tmp/der" &&
            openssl x509 -inform DER -in "$tmp/der" -out "$root" 2>/dev/null || { echo "the anchors name no development root ${anchor#development }"; return; }
        ;;
    "sev-snp production "*)
        [ -n "$amd" ] || { echo "production evidence: give AMD's ARK and ASK as the third argument"; return; }
        cp "$amd" "$root"
        ;;
    *) echo "the anchor $anchor is none for $(field "$e" .kind)"; return ;;
    esac
    openssl verify -no-CApath -no-CAstore -attime "$issued" -CAfile "$root" -untrusted "$tmp/middle.pem" "$vcek" >/dev/null 2>&1 ||
        { echo "the certificate of the chip's key does not lead to $anchor"; return; }
    # The chip: AMD's extension hwID, 64 bytes, on Turin 8. A report may mask it with zeros; the certificate still says which.
    chip=$(openssl asn1parse -in "$vcek" | grep -A1 ':1\.3\.6\.1\.4\.1\.3704\.1\.4$' | sed -n 's/.*HEX DUMP\]://p' | tr A-F a-f)
    [ ${#chip} = 128 ] || [ ${#chip} = 16 ] || { echo "its key is no chip's: keys of cloud providers (VLEK) are not checked here"; return; }
    body=$(bytes 416 64)
    [ -z "${body//0/}" ] || [ "$body" = "$chip$(printf '%*s' $((128 - ${#chip})) '' | tr ' ' 0)" ] ||
        { echo "the chip in the report is not the certified one"; return; }
    [ "$(jq -r '.predicate.claims.chip.value' "$p")" = "$chip" ] || { echo "the chip in the passport is not the certified one"; return; }

    # Its signature: ECDSA P-384 over bytes 0 to 29Fh; r and s are little-endian, 72 bytes each.
    r=$(integer "$(reversed "$(bytes 672 72)")") s=$(integer "$(reversed "$(bytes 744 72)")")
    unhex "30$(printf '%02x' $(((${#r} + ${#s}) / 2)))$r$s" >"$tmp/ecdsa"
    openssl x509 -in "$vcek" -noout -pubkey >"$tmp/vcek.pub"
    head -c 672 "$tmp/report" | openssl dgst -sha384 -verify "$tmp/vcek.pub" -signature "$tmp/ecdsa" >/dev/null 2>&1 ||
        echo "the chip did not sign the report"
}
for ((i = 0; i < count; i++)); do
    [ "${kind[i]}" = passport ] && [ -z "${fault[i]}" ] || continue
    name=$(jq -r '.predicate.evidence | tostring' "$tmp/payload/$(printf '%06d' "$i")")
    if [ -z "${evidence_at[$name]:-}" ]; then
        fault[i]="its evidence ${name:0:12} is not here"
    else
        fault[i]=$(check_evidence "$tmp/payload/$(printf '%06d' "$i")" "${evidence_at[$name]}" 2>/dev/null) || fault[i]="its evidence cannot be read"
    fi
done

# --- 5. The chain: who may say what, each statement within those it rests on. ------------------------------------------------------
cat >"$tmp/chain.jq" <<'JQ'
def need(condition; $refusal): if (condition) == true then empty else $refusal end;
def once: length == (unique | length);
def ceil_div($a; $b): ($a / $b) | ceil;

# Input: the statements, in order. Files: the receipt's header, the anchors, digests of the envelopes, names of keys, of evidence
# and of collateral, and the digest of each request's requirement; each is the one entry of a list.
. as $all
| $receipt[0] as $r | $anchors[0] as $a | $digest[0] as $digests | $id[0] as $ids | $name[0] as $evidence
| $item[0] as $collateral | $policy[0] as $policies
| [$all[] | .predicateType | ltrimstr("https://legation.dev/") | rtrimstr("/v1")] as $kinds
| (reduce range(0; $all | length) as $i ({};
    .[$digests[$i]] = {i: $i, kind: $kinds[$i], p: $all[$i].predicate})) as $by
# The statement of this kind that stands before place $i.
| def before($i; $kind): . as $d | if ($d | type) == "string" and $by[$d] != null and $by[$d].kind == $kind and $by[$d].i < $i
    then $by[$d].p else null end;
def request_of($i): .task | before($i; "request");
def owner($request): .owner.key // $request.client;
# Who holds the key of an input of this fragment.
def holder($request; $input): if $input.kind == "sealed" then $input.holder // owner($request)
    else $request.fragments[$input.fragment] | owner($request) end;
def covers($fragment; $enclave): (.fragments | index($fragment) != null)
    and (.subject.kind == "policy" or .subject == {kind: "enclave", value: $enclave});
def price($rate): ceil_div($rate.core_hour * .cpu; 1000) + ceil_div($rate.gib_hour * .memory; 1073741824);
# What a report costs for so many microseconds.
def cost(micros): micros as $micros | ($by[.prev[1]].p.configuration.rate) as $rate | $by[.task].p.fragments[.fragment].demand
    | ceil_div(price($rate) * $micros; 3600000000);
# What an answer to a call costs for so many microseconds.
def charged($loan; micros): micros as $micros | ceil_div($loan.price_hour * $micros; 3600000000);
def subject($name; $sha256): {name: $name, digest: {sha256: $sha256}};

def subjects($kind): if $kind == "appointment" then [subject("key"; $ids[.key])]
    elif $kind == "passport" then [subject("enclave"; $ids[.enclave]), subject("evidence"; .evidence)]
    elif $kind == "request" then [.fragments | to_entries[] | .key as $n | .value | subject("fragment-\($n)/module"; .module),
        (.inputs[] | select(.kind == "sealed") | subject("fragment-\($n)/\(.name)"; .ciphertext))]
    elif $kind == "allocation" or $kind == "seating" then [subject("request"; .task)]
    elif $kind == "membership" then [.members[] | subject("member"; .enclave)]
    elif $kind == "grant" then [.modules[] | subject("module"; .)]
    elif $kind == "call" then [subject("module"; .module), subject("input"; .input.commitment)]
    elif $kind == "report" and .answer != null then [subject("call"; .answer.call)]
    elif $kind == "report" then [(select(.output != null) | subject("output"; .output.ciphertext)),
        (select(.log != null) | subject("log"; .log.ciphertext))] as $left
        | if $left == [] then [subject("module"; .module)] else $left end
    else if .result != null then [subject("result"; .result.ciphertext)] else [.reports[] | subject("report"; .)] end end;

def fields($kind): {
    appointment: ["operator", "key", "office", "not_before", "not_after"],
    passport: ["verifier", "issued", "expires", "enclave", "sealing", "ear", "claims", "configuration", "evidence", "prev"],
    request: ["client", "sealing", "tenant", "name", "created", "expires", "fragments", "require", "assurance", "budget", "nonce", "prev"],
    allocation: ["manager", "term", "task", "fragment", "lease", "from", "until", "enclave", "provider", "region", "price_hour", "why", "revocations", "prev"],
    grant: ["issuer", "task", "fragments", "subject", "modules", "fuel", "budget", "depth", "expires", "releases", "prev"],
    call: ["delegator", "task", "fragment", "loan", "number", "question", "challenge", "module", "args", "input", "demand", "assurance", "created", "expires", "prev"],
    report: ["enclave", "task", "fragment", "lease", "module", "inputs", "seed", "outcome", "output", "log", "usage", "started", "finished", "prev"],
    aggregate: ["enclave", "task", "fragment", "reports", "result", "privacy", "prev"],
    seating: ["manager", "term", "task", "round", "at", "seats", "revocations", "prev"],
    membership: ["enclave", "task", "round", "members", "prev"]}[$kind];
# Those that need not be there. A field that stands in neither list is one that nothing here would check.
def optional($kind): {appointment: ["scope"], passport: ["collateral"], request: ["prefer", "data", "swarm"],
    allocation: ["limits", "seat", "loan"], grant: ["delegable"], report: ["answer", "dissent", "monitor"]}[$kind] // [];

def appointed($i; $digest; $key; $office; $at): ($digest | before($i; "appointment")) as $by
    | need($by != null and $by.key == $key and $by.office == $office; "its signer was not appointed \($office)"),
      need($by != null and $by.not_before - 60 <= $at and $at <= $by.not_after; "the appointment of its signer does not cover its time");

def appointment: .operator as $operator | need($a.operators | index($operator) != null; "its operator is not among the anchors");

def security: {version, status, shortfall: (.shortfall // []), advisories: (.advisories // []), level};
def passport($i): . as $p
    | (.claims.anchor.kind == "development") as $development
    | need(.prev | length == 1; "it rests on something else than one appointment"),
      appointed($i; .prev[0]; .verifier; "verifier"; .issued),
      (.prev[0] | before($i; "appointment")) as $by
    | need($p.issued < $p.expires and $p.expires <= $p.issued + 3600 and $p.expires <= $by.not_after; "it lives too long"),
      need($development == ($p.claims.tee.value == "dev-snp"); "anchor and kind of machine do not agree"),
      need(($development | not) or ([$a.development // [], ($a.tpm // [] | map(select(.development))) | .[].name == $p.claims.anchor.name] | any);
        "its development root is not among the anchors"),
      need($p.claims.debug.value == false; "its guest may be debugged: its host may read its memory"),
      ($p.claims.tcb.value | security) as $vendors | ($p.ear.tcb | security) as $own
    | need($vendors == $own or ($vendors.status == "unknown" and $vendors.version == $own.version); "it was appraised for another security version"),
      need($by.scope.kinds == null or ($by.scope.kinds | index($p.claims.tee.value) != null); "its verifier is not trusted with machines of this kind"),
      need(($p.collateral // []) - $collateral == []; "the collateral behind it is missing"),
      need($p.ear.status == "warning" or ($p.ear.status == "affirming" and ($development | not)); "its status is \($p.ear.status)");

# Assurances: is it one, and does it assure no less than $least?
def assurance: . == "attested" or . == "proven" or (type == "object" and keys == ["replicated"]
    and (.replicated | keys == ["diverse", "k"] and .k >= 2 and .k <= 9 and (.diverse | . == "chip" or . == "provider" or . == "tee")));
def assures($least): $least == "attested" or . == "proven" or ((type == "object") and ($least | type == "object")
    and .replicated.k >= $least.replicated.k and ($least.replicated.diverse == "chip" or .replicated.diverse == $least.replicated.diverse));

# Proofs hide nothing: they are for data of which the request says that it may be seen.
def provable($request): . != "proven" or ($request.data.sensitivity // "confidential" | . == "public" or . == "internal");

# Whether work of this request may be in the enclave of this passport. Requirements are not evaluated here.
def may_run($request; $passport): ($passport.prev[0] | $by[.].p.scope.tenants) as $tenants | ($request.data.residency // []) as $residency
    | need($tenants == null or ($tenants | index($request.tenant) != null); "its verifier is not trusted with work of this tenant"),
      need($residency == [] or [$passport.configuration.region, ($passport.claims.region | select(. != null) | .value)] - $residency == [];
        "its enclave is not where the data may be"),
      need($request.data.sensitivity != "restricted" or ($passport.claims.confidential.value == true and $passport.claims.debug.value == false
        and $passport.ear.grace == null); "its enclave is none for restricted data");

# Limits of a placement, each that is set: on what is asked for, and on what was used.
def over($most; $got): $most != null and $got > $most;
def asked($limits; $demand): $limits | select(. != null)
    | need([over(.cpu; $demand.cpu), over(.memory; $demand.memory), over(.fuel; $demand.fuel), over(.time; $demand.time),
        over(.egress; $demand.output)] | any | not; "it asks for more than the limits of its placement"),
      need([.encryption == (null, "aes-128-gcm", "aes-256-gcm", "aes-256-gcm-x-wing")] | any; "what it leaves is not sealed as the limits of its placement say");
def stayed($limits): . as $p | $limits | select(. != null)
    | need([over(.memory; $p.usage.memory_peak), over(.fuel; $p.usage.fuel),
        ($p.outcome.kind == "completed" and .time != null and $p.usage.micros > .time * 1000 + 1000000),
        over(.egress; [$p.output, $p.log, $p.answer.output | select(. != null) | .size] | add // 0)] | any | not;
        "it used more than the limits of its placement");

# What a request says of itself.
def short: utf8bytelength <= 4096;
def plain: short and (explode | index(0) == null);
def machine: (.gpus // 0) as $gpus | .cpu > 0 and .cpu <= 1000000000 and .memory > 0 and .memory <= 1125899906842624
    and .time > 0 and .time <= 604800000 and $gpus <= 64000 and ($gpus <= 1000 or $gpus % 1000 == 0);
def preferences: (.spread // []) as $spread | ([$spread[] | {(.axis): .rule}] | add // {}) as $rules
    | need(keys - ["weights", "near", "within", "spread", "priority", "reservation"] == []; "unknown fields in its preferences"),
      need(([(.weights // {})[] | . >= 0 and . <= 1000] | all) and (.priority // 4 | . >= 0 and . <= 9) and (.within == null or .near != null);
        "its preferences are out of bounds"),
      need(($spread | length) <= 8 and ($rules | length) == ($spread | length)
        # What shares the narrower shares the wider.
        and ([$spread[] | select(.rule == "same") | {enclave: ["chip", "tee", "region", "provider"], chip: ["tee", "region", "provider"]}[.axis] // []
            | .[] | $rules[.] == "distinct"] | any | not); "its rules of spread cannot hold together");
def terms: need(keys - ["sensitivity", "regulations", "residency"] == []; "unknown fields in what it says of its data"),
    need([.sensitivity // "confidential" | . == ("public", "internal", "confidential", "restricted")] | any; "a sensitivity that is not known here"),
    need(([.regulations, .residency | length <= 16] | all) and ([(.regulations // [])[] | test("^[a-z0-9._-]{1,64}\\z")] | all)
        and ([(.residency // [])[] | test("^[a-z0-9][a-z0-9-]{0,62}\\z")] | all); "what it says of its data is out of bounds");
def swarm($request): . as $terms | (.least // .members) as $least
    | need(keys - ["members", "least", "seat", "speculate"] == []; "unknown fields in its swarm"),
      need(.members >= 2 and .members <= 64 and $least >= 1 and $least <= .members
        and (.speculate == null or (.speculate >= 110 and .speculate <= 10000)); "its swarm is out of bounds"),
      need($request.prefer.reservation == null and ([$request.fragments[].delegates == null] | all); "a swarm with a reservation, or that hands on"),
      need((.seat | machine) and ([$request.fragments[].demand | .cpu <= $terms.seat.cpu and .memory <= $terms.seat.memory
        and (.gpus // 0) <= ($terms.seat.gpus // 0) and .time <= $terms.seat.time] | all); "a seat has no room for every fragment"),
      need([$request.fragments[].require] | unique | length == 1; "fragments of a swarm require different enclaves"),
      need([$request.prefer.spread // [] | .[] | ((.axis == "enclave" or .axis == "chip") and (.rule == "same" or .rule == "together"))
        or (.axis == "tee" and .rule == "distinct" and $terms.members > 9)] | any | not; "rules of spread that members cannot meet");

def request($i):
    need(.created < .expires and .expires <= .created + 604800; "its life is out of bounds"),
    need(.assurance == "attested"; "an assurance that is not known here"),
    need((.fragments | length) >= 1 and (.fragments | length) <= 256; "it has no fragment, or too many"),
    need((.name | short) and ([.fragments[] | (.inputs | length <= 256) and (.args | length <= 64 and ([.[] | plain] | all)) and (.name | short)
        and ([.inputs[] | select(.kind == "sealed") | .name | short] | all)] | all) and (subjects("request") | length <= 4096);
        "its names, arguments or inputs are too long or too many, or its arguments hold NUL"),
    need([.fragments[].demand | machine and .fuel > 0 and .output <= ([.memory, 1073741824] | max)] | all; "it asks for what no machine has"),
    (.prefer | select(. != null) | preferences),
    (.data | select(. != null) | terms),
    (. as $request | .swarm | select(. != null) | swarm($request)),
    need([.fragments | to_entries[] | .key as $n | .value.inputs[] | select(.kind == "output") | .fragment >= 0 and .fragment < $n] | all;
        "a fragment reads one that does not stand before it"),
    (.budget as $budget | .fragments[].delegates | select(. != null)
        | need(.depth >= 1 and .depth <= 8 and (.modules | . == unique and length >= 1 and length <= 64) and .fuel > 0 and .budget <= $budget
            and (.assurance | assurance); "what it lets be handed on is out of bounds")),
    (. as $request | need([.fragments[].delegates.assurance | provable($request)] | all; "it asks for proofs of data that they may not show")),
    need((.prev | once) and (.prev | all((before($i; "report") | . != null and .answer == null) or before($i; "aggregate") != null));
        "it builds on something else than reports or aggregates, each once");

# The grant of this digest and all that it rests on, each once, level by level: whoever made the receipt may have woven more paths
# between few grants than anybody could follow. Of more than there may be above one, only that many and the next.
def lineage: {seen: {(.): true}, open: [.]}
    | until(.open == []; reduce (.open[] | $by[.].p.prev[] | select($by[.].kind == "grant")) as $d (.open = [];
        if .seen[$d] or (.seen | length) > 265 then . else .seen[$d] = true | .open += [$d] end))
    | .seen | keys;

# An allocation that lends an enclave to another.
def loan($i): . as $p | request_of($i) as $request | $request.fragments[.fragment].delegates as $most
    | (.prev[2] | before($i; "allocation")) as $own
    | need($request != null and .prev[0] == .task and (.prev | length == 3) and $own != null;
        "it does not rest on its request, an appointment and its borrower's allocation"),
      appointed($i; .prev[1]; .manager; "manager"; .from),
      need($most != null; "the request lets nothing of this fragment be handed on"),
      need($own.task == .task and $own.fragment == .fragment and $own.lease == .loan.of and $own.enclave == .loan.borrower
        and $own.lease < .lease and $own.term <= .term and $own.revocations <= .revocations; "it rests on another allocation than its borrower's"),
      need(.loan.number >= 1 and .enclave != .loan.borrower and .seat == null; "it lends an enclave to itself, has no number, or a seat"),
      need($request.created - 60 <= .from and .from <= $request.expires; "it does not begin within its request"),
      need($own.from - 60 <= .from and .from <= .until and .until <= $own.until; "it does not lie within its borrower's"),
      need([limit(9; .prev[2] | recurse($by[.].p | select(.loan != null) | .prev[2]))] | length <= $most.depth; "it is deeper than the request lets it be");

# An allocation in a swarm rests on one membership of every member of its round.
def seated($i; $request; $members): . as $p | [$members[] | before($i; "membership")] as $all
    | ($all[0].prev[1] | before($i; "seating")) as $seating
    | if $request.swarm == null then need(.seat == null and $members == []; "it has a seat, and its request asks for no swarm") else
      need(.seat != null and $all != [] and ([$all[] | . != null] | all) and $seating != null; "it does not rest on the memberships of its round"),
      need([$all[] | .task == $p.task and .round == $p.seat.round and .members == $all[0].members and .prev[1] == $all[0].prev[1]] | all;
        "the memberships it rests on are not of one list of its round"),
      need([$all[0].members[].enclave] == [$all[] | $ids[.enclave]]; "it does not rest on one membership of every member"),
      need([$all[0].members[] | .enclave == $p.enclave and .lease == $p.seat.lease] | any; "its enclave has another seat, or none"),
      need([$all[] | $by[.prev[2]].p.claims.chip.value] | once and index(null) == null; "two members on one chip"),
      need($seating.at <= .from + 60 and $seating.term <= .term and ([$seating.seats[] | select(.member.enclave == $p.enclave) | $p.until <= .until] | . != [] and all);
        "its dates are not within those of its seat") end;

def seating($i): . as $p | request_of($i) as $request | (.prev[2] | before($i; "seating")) as $old | $request.swarm as $terms
    | need($terms != null; "its request asks for no swarm"),
      need(.prev[0] == .task and (((.prev | length) == 2 and .round == 1) or ((.prev | length) == 3 and $old != null and $old.task == .task
        and $old.round + 1 == .round and $old.term <= .term and $old.revocations <= .revocations));
        "it does not rest on its request, an appointment, and the seating of the round before"),
      need(.round > 0 and ([.seats[].member.enclave] | . == unique) and ([.seats[].member.lease] | once) and (.seats | length) <= $terms.members
        and (.seats | length) >= (if .round == 1 then $terms.members else $terms.least // $terms.members end); "its seats are not as many as asked, ascending, each once"),
      appointed($i; .prev[1]; .manager; "manager"; .at);

def membership($i): . as $p | request_of($i) as $request
    | (.prev[1] | before($i; "seating")) as $seating
    | (.prev[2] | before($i; "passport")) as $passport
    | if $request.swarm == null or $seating == null or $passport == null or (.prev | length) != 3
      then "it does not rest on a request for a swarm, a seating and a passport" else
      [$seating.seats[] | select(.member.enclave == $ids[$p.enclave])][0] as $seat
    | need(.prev[0] == .task and .task == $seating.task and .round == $seating.round and .members == [$seating.seats[].member]
        and $seat.member.passport == .prev[2]; "it signed another list than was seated, or is not in it"),
      need($passport.enclave == .enclave; "its passport is another enclave's"),
      need($passport.issued - 60 <= $seating.at and $seating.at <= $passport.expires; "its passport does not cover the time of its seating"),
      need($seat.price_hour == ($request.swarm.seat | price($passport.configuration.rate)); "the price of its seat is not that of its passport"),
      may_run($request; $passport) end;

def allocation($i): . as $p | request_of($i) as $request
    | (.prev[2] | before($i; "allocation") | . != null and .loan == null and .task == $p.task and .fragment == $p.fragment
        and .lease < $p.lease and .term <= $p.term and .revocations <= $p.revocations) as $replaces
    | (if $replaces then .prev[3:] else .prev[2:] end) as $members
    | need($request != null and .prev[0] == .task and (.prev | length) >= 2; "it does not rest on its request"),
      appointed($i; .prev[1]; .manager; "manager"; .from),
      need($request.fragments[.fragment] != null; "the request has no such fragment"),
      need($request.created - 60 <= .from and .from <= $request.expires and .from <= .until; "it does not begin within its request"),
      need($members == [] or $request.swarm != null; "it does not replace an earlier allocation of its fragment"),
      seated($i; $request; $members);

# What a grant lets be passed on, beside its depth: within $most, a grant's or a request's.
def passes($most): need((.modules | . != [] and . == unique) and .modules - $most.modules == []
    and .fuel <= $most.fuel and .budget <= $most.budget; "it lets more be passed on than it was given"),
    need((.assurance | assurance) and (.assurance as $own | $most.assurance as $least | $own | assures($least)); "it asks less of calls than it was asked");

# A grant by an enclave.
def passed_on($i): . as $p | request_of($i) as $request | $request.fragments[.fragments[0]] as $f
    | [.prev[] | before($i; "grant")] as $above
    | (.delegable // {fuel: 0, budget: 0, releases: []}) as $below
    | if $request == null or $f == null or $above == [] or ([$above[] | . == null] | any) then "it does not rest on grants of its task" else
      need((.prev | . == unique and length <= 257) and (($above | length) == 1 or ([$above[] | .prev == [$p.task]] | all)); "it does not rest on all clients' grants, or one of an enclave"),
      need(([$above[] | .prev == [$p.task]] | all | not)
        or [($f | owner($request)), ($f.inputs[] as $input | $f | holder($request; $input))] - [$above[].issuer] == [];
        "the owner, or a holder of an input, did not let it be passed on"),
      need((.delegable == null) == (.depth == 0) and (.fragments | length) == 1 and (.modules | . != [] and . == unique); "its form is none of a grant by an enclave"),
      need(.subject.kind == "enclave" and .subject.value != $ids[.issuer]; "it is to nobody else"),
      need([$above[].task == .task] | all; "it is of another task than those it rests on"),
      ($above[] | need(.delegable != null and .depth > $p.depth; "what it rests on may not be passed on so often"),
        need(.subject == {kind: "enclave", value: $ids[$p.issuer]}; "its issuer was not granted what it rests on"),
        need(.fragments | index($p.fragments[0]) != null; "it is of another fragment"),
        need($p.expires <= .expires; "it ends later than what it rests on"),
        need($p.modules - .delegable.modules == []; "it allows a module that may not be passed on"),
        need($p.fuel + $below.fuel <= .delegable.fuel and $p.budget + $below.budget <= .delegable.budget; "it allows more fuel or cost than may be passed on"),
        need($p.releases - (.delegable.releases // []) == []; "it releases a key that may not be passed on"),
        (.delegable as $most | $p.delegable | select(. != null) | passes($most))),
      need(($below.releases // []) | . == unique and . - $p.releases == []; "it lets keys be passed on that it does not release"),
      need($below.assurance | provable($request); "it asks for proofs of data that they may not show") end;

def grant($i): . as $p | request_of($i) as $request
    | if $request == null then "it does not rest on its request" else
      need(.expires <= $request.expires and .budget <= $request.budget and (.delegable == null) == (.depth == 0); "it exceeds its request"),
      need(.delegable == null or .subject.kind == "enclave"; "a policy grant that may be passed on"),
      need(.delegable.assurance | provable($request); "it asks for proofs of data that they may not show"),
      need((.delegable.releases // []) | . == unique and . - $p.releases == []; "it lets keys be passed on that it does not release"),
      need(.fragments | length > 0 and . == unique; "its fragments are not ascending"),
      need(.subject.kind == "enclave" or (.subject.kind == "policy" and .releases == [] and .subject.value == $policies[$p.task]);
        "a grant for another policy than the request's, or one that releases keys"),
      ($p.fragments[] | $request.fragments[.] as $f
        | if $f == null then "the request has no such fragment" else
          need($p.modules | index($f.module) != null; "it is for another module than its fragment's"),
          need($p.fuel <= $f.demand.fuel; "it allows more fuel than its fragment asks for"),
          need($p.delegable == null or ($f.delegates != null and $p.depth <= $f.delegates.depth); "it may be passed on more often than the request says"),
          ($p.delegable | select(. != null) | passes($f.delegates)),
          need(($f | owner($request)) == $p.issuer or ([$f.inputs[] | . as $input | $f | holder($request; $input) == $p.issuer] | any);
            "its issuer neither owns the fragment nor holds an input of it") end),
      need([$p.modules[] as $m | [$p.fragments[] | $request.fragments[.].module == $m] | any] | all; "it allows a module that no fragment of it runs"),
      need([$p.releases[] as $object | [$p.fragments[] | $request.fragments[.] as $f | $f.inputs[] | . as $input
        | ($f | holder($request; $input)) == $p.issuer and ($input.kind == "output" or $input.object == $object)] | any] | all;
        "it releases an object that its issuer does not hold") end;

def call($i): . as $p | request_of($i) as $request
    | (.prev[0] | before($i; "allocation")) as $loan
    | (.prev[1] | before($i; "grant")) as $grant
    | if $request == null or $loan.loan == null or $grant == null or $grant.prev == [.task] or (.prev | length) != 2
      then "it does not rest on the allocation of a loan and a grant by its borrower" else
      need($ids[$grant.issuer] == $loan.loan.borrower and $grant.subject == {kind: "enclave", value: $loan.enclave}
        and $grant.task == $loan.task and $grant.fragments == [$loan.fragment]; "its grant is not by the borrower of its loan, to the enclave that is lent"),
      need($loan.task == .task and $loan.fragment == .fragment and $loan.lease == .loan and $ids[.delegator] == $loan.loan.borrower;
        "its loan is another, or somebody else's"),
      need($grant.modules | index($p.module) != null; "it is for a module that its grant does not allow"),
      need((.args | length <= 64 and ([.[] | plain] | all))
        and ([.input.size, .demand.output | . <= 1073741824] | all); "its arguments, input or output are too large, or its arguments hold NUL"),
      need(.number >= 1 and .demand.fuel > 0 and .demand.time > 0 and .demand.memory <= $loan.loan.demand.memory
        and .demand.time <= $loan.loan.demand.time; "it asks for more than its loan sets aside"),
      need(.demand.fuel <= $grant.fuel and charged($loan; .demand.time * 1000) <= $grant.budget; "it asks for more than its grant allows"),
      need(.assurance | provable($request); "it asks for a proof of data that it may not show"),
      asked($loan.limits; .demand + {cpu: $loan.loan.demand.cpu}),
      ([.prev[1] | lineage[] | {d: ., p: $by[.].p}] as $grants
        | need(($grants | length) <= 265; "more grants are above it than there may be"),
          need((.assurance | assurance) and ([$grants[] | select(.d != $p.prev[1]) | .p.delegable.assurance as $least | $p.assurance | assures($least)] | all);
            "it is assured less than a grant above asks"),
          need(.created <= .expires and $loan.from - 60 <= .created and ([.expires <= ($loan.until, $request.expires, $grants[].p.expires)] | all);
            "it does not lie within its loan, its grants and its request")) end;

# Of answers to one question, those that voted alike, the most first. What a limit of its machine stopped does not vote.
def sides: [.[] | select(.p.outcome | .kind == "failed" and ([.reason == ("out-of-memory", "table-full", "stack-overflow", "deadline",
    "over-budget", "module-does-not-fit", "unanswered")] | any) | not)] | group_by([.p.outcome, .p.answer.output, .p.usage.fuel, .p.answer.trace]) | sort_by(-length);

# What a report says of the answers it used.
def used($i): . as $p | [.prev[] as $d | $d | before($i; "report") | select(.answer != null)
        | {d: $d, p: ., call: $by[.answer.call].p, loan: $by[.prev[0]].p, grant: $by[.prev[2]].p, passport: $by[.prev[1]].p}] as $answers
    | ($answers | group_by(.call.question)) as $questions
    | need([$answers[] | .call.delegator == $p.enclave and .call.task == $p.task and .call.fragment == $p.fragment and .loan.prev[2] == $p.prev[0]
        and .grant.prev - $p.prev == []] | all; "it uses an answer to somebody else's call"),
      need([$answers[].p | $p.started - 60 <= .started and .finished <= $p.finished + 60] | all; "it uses an answer that was not given while it ran"),
      ($questions[] | .[0].call.assurance as $assurance
        | need([.[].call | del(.loan, .number, .challenge, .created, .expires, .prev)] | unique | length == 1; "calls of one question that ask something else"),
          # That which is to be proven is attested until its proof is there.
          if $assurance == "attested" or $assurance == "proven" then need(length == 1; "an attested question with several answers")
          else $assurance.replicated as $r
            | need(length <= $r.k and ([.[].p.enclave] | once) and ([.[].passport.claims.chip.value] | once)
                and ($r.diverse != "provider" or ([.[].passport.configuration.provider] | once))
                and ($r.diverse != "tee" or ([.[].passport.claims.tee.value] | once)); "enclaves that answered one question are not as diverse as was asked"),
              need(((sides[0] // []) | length) * 2 > $r.k; "no majority agreed on the answer to a question") end),
      need((.dissent // []) == ([$questions[] | select(.[0].call.assurance | type == "object") | sides[1:][][].d] | sort); "it does not name exactly those that disagreed");

# A report that answers a call.
def answer($i): . as $p | request_of($i) as $request
    | (.prev[0] | before($i; "allocation")) as $loan
    | (.prev[1] | before($i; "passport")) as $passport
    | (.prev[2] | before($i; "grant")) as $grant
    | (.prev[3] | before($i; "call")) as $call
    | if $request == null or $loan.loan == null or $passport == null or $grant == null or $call == null
      then "it does not rest on a loan, a passport, a grant and a call" else
      need(.answer.call == .prev[3] and $call.prev == [.prev[0], .prev[2]]; "it answers another call than it rests on"),
      need([.prev[4:][] | before($i; "report") | . != null and .answer != null] | all; "it rests on something else than answers to its own calls"),
      need($passport.enclave == .enclave and $loan.enclave == $ids[.enclave]; "its enclave is not the one that was lent"),
      need(.task == $call.task and .fragment == $call.fragment and .lease == $call.loan; "it is of another task, fragment or loan than its call"),
      need(.module == $call.module and .inputs == [$call.input.commitment] and .seed == $call.question; "another module ran, on another input, or with another seed"),
      need($loan.provider == $passport.configuration.provider and $loan.region == $passport.configuration.region
        and $loan.price_hour == ($loan.loan.demand | price($passport.configuration.rate)); "provider, region or price are not those of its passport"),
      need(.started <= .finished and ([$call.created, $loan.from] | max) - 60 <= .started and $passport.issued - 60 <= .finished
        and .finished <= ([$call.expires, $loan.until] | min) + 60 and .finished <= $passport.expires; "it did not run within its call, its loan and its passport"),
      need(.usage.fuel <= $call.demand.fuel and .usage.memory_peak <= $call.demand.memory
        and (.outcome.kind == "failed" or .usage.micros <= $call.demand.time * 1000 + 1000000); "it used more than its call may"),
      need(.output == null and .log == null and (.answer.output != null) == (.outcome.kind == "completed")
        and (.answer.output == null or .answer.output.size <= $call.demand.output); "it has an output exactly when it completed, no larger than was asked"),
      need(.monitor == null or .monitor.trace == .answer.trace; "its monitor saw other host calls"),
      stayed($loan.limits),
      may_run($request; $passport),
      used($i) end;

def report($i): . as $p | request_of($i) as $request
    | (.prev[0] | before($i; "allocation")) as $allocation
    | (.prev[1] | before($i; "passport")) as $passport
    | [.prev[2:][] | . as $d | before($i; "grant") | select(. != null) | {d: $d, p: .}] as $grants
    | [.prev[2:][] | . as $d | before($i; "report") | select(. != null) | {d: $d, p: .}] as $all_reports
    | [$all_reports[] | select(.p.answer == null)] as $reports
    | [$all_reports[] | select(.p.answer != null)] as $answers
    | if $request == null or $allocation == null or $allocation.loan != null or $passport == null then "it does not rest on a request, an allocation and a passport" else
      $request.fragments[.fragment] as $f
    | if $f == null then "the request has no such fragment" else
      need(.prev[2:] == [($grants, $reports, $answers)[].d] and ([$grants[].d] | . == unique); "it does not rest on grants in ascending order, then reports, then answers"),
      used($i),
      need($passport.enclave == .enclave; "its passport is another enclave's"),
      may_run($request; $passport),
      asked($allocation.limits; $f.demand),
      stayed($allocation.limits),
      need($allocation.enclave == $ids[.enclave] and $allocation.task == .task and $allocation.fragment == .fragment and $allocation.lease == .lease;
        "it was not allocated this fragment"),
      need($allocation.provider == $passport.configuration.provider and $allocation.region == $passport.configuration.region
        and $allocation.price_hour == ($f.demand | price($passport.configuration.rate)); "provider, region or price are not those of its passport"),
      need(.started <= .finished and $allocation.from - 60 <= .started and .finished <= $allocation.until + 60
        and .finished <= $request.expires + 60 and $passport.issued - 60 <= .finished and .finished <= $passport.expires;
        "it did not run within its lease, its request and its passport"),
      need(.module == $f.module; "another module ran than the request names"),
      need([$f.inputs[] | select(.kind == "output") | .fragment] == [$reports[].p.fragment]
        and ([$reports[].p | .task == $p.task and .outcome.kind == "completed" and .output != null and .finished <= $p.started + 60] | all);
        "it did not read what completed reports of its task say"),
      ([foreach $f.inputs[] as $input ({n: -1}; if $input.kind == "output" then .n += 1 else . end;
        if $input.kind == "output" then .n as $n | $reports[$n].p.output else $input end)]) as $read
    | need(.inputs == [$read[].commitment]; "it read other inputs than the request names"),
      ([$grants[].p | select(covers($p.fragment; $ids[$p.enclave]) and .expires >= $p.started)] as $mine
        | need([$grants[].p | covers($p.fragment; $ids[$p.enclave])] | all; "it rests on a grant for something else"),
          need([$mine[] | .issuer == ($f | owner($request))] | any; "the owner of the fragment did not grant it"),
          ([$f.inputs, [$read[].object]] | transpose[] as [$input, $object]
            | need([$mine[] | .issuer == ($f | holder($request; $input)) and (.releases | index($object) != null)] | any;
                "the holder of object \($object) did not release it")),
          need([$mine[] | $p.usage.fuel <= .fuel] | all; "it used more fuel than was granted"),
          need(.outcome.kind == "failed" or ([$mine[] | .budget >= ($p | cost([0, .usage.micros - 1000000] | max))] | all);
            "it cost more than was granted")),
      # Its end is noticed at the engine's next look: a second of grace.
      need(.usage.fuel <= $f.demand.fuel and .usage.memory_peak <= $f.demand.memory
        and (.outcome.kind == "failed" or .usage.micros <= $f.demand.time * 1000 + 1000000); "it used more than the fragment may") end end;

def aggregate($i): . as $p | (.prev[0] | before($i; "report")) as $own
    | if $own == null then "it does not rest on its own report" else
      need(.prev[1:] == .reports and .reports != [] and .reports == [$own.prev[] | select(before($i; "report") | . != null and .answer == null)];
        "it aggregates other reports than its inputs came from"),
      need($own.outcome.kind == "completed" and $own.enclave == .enclave and $own.task == .task and $own.fragment == .fragment
        and $own.output == .result; "it is not of its own report") end;

# Depth first from the roots: whatever a statement rests on stands before it, nothing is missing, nothing superfluous.
def visit($d): if .seen[$d] then . else .seen[$d] = true
    | if $by[$d] == null then .missing += [$d] else reduce (($by[$d].p.prev // [])[]) as $p (.; visit($p)) | .order += [$d] end end;

([range(0; $all | length) as $i | $all[$i] as $s | $kinds[$i] as $kind
    | [$i, ([try (
        need($s._type == "https://in-toto.io/Statement/v1"; "no in-toto Statement v1"),
        need(($s | keys) == ["_type", "predicate", "predicateType", "subject"]; "unknown fields in the statement"),
        need(($s.predicate | keys) - optional($kind) == (fields($kind) | sort); "unknown or missing fields in the predicate"),
        need($s.subject == ($s.predicate | subjects($kind)); "its subjects are not those of its predicate"),
        ($s.predicate | if $kind == "appointment" then appointment elif $kind == "passport" then passport($i)
            elif $kind == "request" then request($i) elif $kind == "allocation" then if .loan != null then loan($i) else allocation($i) end
            elif $kind == "grant" then if .prev == [.task] then grant($i) else passed_on($i) end elif $kind == "call" then call($i)
            elif $kind == "seating" then seating($i) elif $kind == "membership" then membership($i)
            elif $kind == "report" then if .answer != null then answer($i) else report($i) end else aggregate($i) end)
      ) catch "it cannot be checked: \(.)"][0])] | select(.[1] != null)]) as $faults
| (reduce $r.roots[] as $d ({order: [], missing: []}; visit($d))) as $walk
| [$all[] | select(.predicateType == "https://legation.dev/report/v1") | .predicate] as $all_reports
| [$all_reports[] | select(.answer == null)] as $reports
# Answers to calls, with what each used: under its grant, under all above it, and of its fragment.
| [$all_reports[] | select(.answer != null) | . as $p | $by[.answer.call].p as $call | {p: ., loan: $by[.prev[0]].p}
    | . + {fuel: .p.usage.fuel, cost: charged(.loan; [.p.usage.micros, $call.demand.time * 1000] | min)}] as $answers
| ($by[$r.task] | select(. != null and .kind == "request") | .p) as $request
| ([$request.fragments[].inputs[] | select(.kind == "output") | .fragment] | unique) as $read
| [$r.roots[] | $by[.] | select(. != null) | if .kind == "aggregate" then $by[.p.prev[0]].p elif .kind == "report" and .p.answer == null then .p else null end] as $ends
| [ try (need($walk.missing == []; "a statement that another rests on is missing: \($walk.missing[0])"),
    need($walk.order == $digests; "statements were reordered, added or removed"),
    need([$reports[] | [.task, .fragment]] | once; "a fragment was reported twice"),
    need([$all[] | select(.predicateType == "https://legation.dev/call/v1") | .predicate | [.task, .loan, .number]] | once; "a number of a loan was used for two calls"),
    need([$answers[].p.answer.call] | once; "a call was answered twice"),
    need([$all_reports[].prev[] | select($by[.].kind == "report") | select($by[.].p.answer != null)] | once; "an answer was used twice"),
    need([$answers | group_by(.p.prev[2])[] | $by[.[0].p.prev[2]].p as $grant | (map(.fuel) | add) <= $grant.fuel and (map(.cost) | add) <= $grant.budget] | all;
        "calls used more than their grant allows"),
    need([[$answers[] | . as $one | .p.prev[2] as $leaf | $leaf | lineage[] | select(. != $leaf) | {grant: ., one: $one}] | group_by(.grant)[]
        | $by[.[0].grant].p.delegable as $passed | (map(.one.fuel) | add) <= $passed.fuel and (map(.one.cost) | add) <= $passed.budget] | all;
        "calls used more than was passed on"),
    need([$answers | group_by([.p.task, .p.fragment])[] | $by[.[0].p.task].p.fragments[.[0].p.fragment].delegates as $most
        | (map(.fuel) | add) <= $most.fuel and (map(.cost) | add) <= $most.budget] | all; "calls used more than the request lets be handed on"),
    need([$all[] | select(.predicateType == "https://legation.dev/aggregate/v1") | .predicate | [.task, .fragment]] | once; "a fragment was aggregated twice"),
    ([$all[] | select(.predicateType == "https://legation.dev/passport/v1") | .predicate.evidence] as $wanted
        | need($wanted - $evidence == []; "the evidence behind a passport is missing"),
          need($evidence - $wanted == []; "evidence that no passport names")),
    need($collateral - [$all[] | select(.predicateType == "https://legation.dev/passport/v1") | .predicate.collateral // [] | .[]] == []; "collateral that no passport names"),
    # What is run in a seat is paid for by the seat, which no report speaks of.
    need([$reports | group_by(.task)[] | ([.[] | if $by[.prev[0]].p.seat != null then 0 else cost([.usage.micros, $by[.task].p.fragments[.fragment].demand.time * 1000] | min) end] | add) <= $by[.[0].task].p.budget] | all; "a task cost more than its budget"),
    need([$ends[] | . != null and .task == $r.task] | all and length == ($r.roots | length); "a root is no result of the task"),
    need(([$ends[].outcome.kind == "completed"] | all and ([$ends[].fragment] == [range(0; $request.fragments | length) | select(. as $n | $read | index($n) == null)]))
        or ([$ends[].outcome.kind == "failed"] | all and ([$ends[].fragment] | . == unique)); "the roots are not the results of the task"),
    need([$r.roots[] | $by[.] | select(.kind == "report") | .p
        | .outcome.kind == "failed" or ([$request.fragments[.fragment].inputs[] | .kind == "sealed"] | all)] | all; "a reduced result without its aggregate"),
    need($r.revocations == ([$all[] | select(.predicateType == "https://legation.dev/allocation/v1") | .predicate
        | select(.task == $r.task) | .revocations] | max // 0); "the revocation it names is not that of its allocations")
  ) catch "it cannot be checked: \(.)"
  ] as $file
| {file: ($file[0] // ""), faults: $faults,
   completed: ([$ends[].outcome.kind == "completed"] | all),
   anchors: ([$all[] | select(.predicateType == "https://legation.dev/passport/v1") | .predicate.claims.anchor | "\(.kind)(\(.name))"] | unique)}
JQ
list() { [ $# = 0 ] || printf '%s\n' "$@"; }
for key in "${!name_of[@]}"; do printf '%s\t%s\n' "$key" "${name_of[$key]}"; done | jq -Rn '[inputs | split("\t") | {(.[0]): .[1]}] |  add // {}' >"$tmp/ids"
list "${digest[@]}" | jq -Rn '[inputs]' >"$tmp/digests"
list "${!evidence_at[@]}" | sort | jq -Rn '[inputs]' >"$tmp/names"
list "${collateral[@]}" | jq -Rn '[inputs]' >"$tmp/items"
# A grant to whoever satisfies the request names the SHA-256 of what the request requires.
for ((i = 0; i < count; i++)); do
    [ "${kind[i]}" != request ] ||
        printf '%s\t%s\n' "${digest[i]}" "$(jq -j '.predicate.require | strings' "$tmp/payload/$(printf '%06d' "$i")" | sha256sum | cut -c1-64)"
done | jq -Rn '[inputs | split("\t") | {(.[0]): .[1]}] | add // {}' >"$tmp/policies"
chain=$(jq -c '.[1]' "$tmp/opened" | jq -s -c --slurpfile receipt <(jq -c 'del(.envelopes, .evidence, .collateral, .proofs)' "$receipt") --slurpfile anchors "$anchors" \
    --slurpfile digest "$tmp/digests" --slurpfile id "$tmp/ids" --slurpfile name "$tmp/names" \
    --slurpfile item "$tmp/items" --slurpfile policy "$tmp/policies" -f "$tmp/chain.jq" 2>"$tmp/why") ||
    invalid "the chain cannot be followed: $(head -c 300 "$tmp/why")"
[ -n "$chain" ] || invalid "the request of the task is not here"
while IFS=$'\t' read -r i why; do
    [ -n "${fault[i]}" ] || fault[i]=$why
done < <(jq -r '.faults[] | @tsv' <<<"$chain")

# --- 6. The verdict. ---------------------------------------------------------------------------------------------------------------
first=
for ((i = 0; i < count; i++)); do
    if [ -z "${fault[i]}" ]; then
        more=
        [ "${kind[i]}" = passport ] && more=", its evidence by the chip"
        printf '%4d  %-11s %s  ok: signed by %s%s\n' $((i + 1)) "${kind[i]}" "${digest[i]:0:12}" "${keyid[i]:0:12}" "$more"
    else
        printf '%4d  %-11s %s  BAD: %s\n' $((i + 1)) "${kind[i]}" "${digest[i]:0:12}" "$(plain "${fault[i]}")"
        : "${first:=${kind[i]} ${digest[i]:0:12}: ${fault[i]}}"
    fi
done
why=$(jq -r .file <<<"$chain")
[ -z "$why" ] || invalid "$why"
if [ -n "$first" ]; then
    echo "receipt INVALID at $(plain "$first")"
    exit 1
fi
proofs=$(jq '.proofs // [] | length' "$receipt")
[ "$proofs" = 0 ] || echo "proofs of execution: $proofs, not judged here: what they are of counts as attested"
names=$(jq -r '.anchors | join(", ")' <<<"$chain")
standing=
case $names in *development*) standing=" (development: proves the protocol, not confidentiality)" ;; esac
echo "receipt valid$standing: task $(jq -r '.task[:12]' "$receipt") $(jq -r 'if .completed then "completed" else "failed" end' <<<"$chain"); anchors $(plain "$names")"
