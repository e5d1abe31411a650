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
for tool in openssl jq sha256sum base64 od cmp; do
    command -v "$tool" >/dev/null || { echo "$0: needs $tool" >&2; exit 2; }
done
for file in "$receipt" "$anchors" ${amd:+"$amd"}; do
    [ -r "$file" ] || { echo "$0: cannot read $file" >&2; exit 2; }
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

# --- 1. The file: one spelling, so that a change of any byte is a change of content. -----------------------------------------
jq -c . "$anchors" >/dev/null 2>&1 || invalid "the anchors are not JSON"
jq -c . "$receipt" 2>/dev/null | cmp -s - "$receipt" || invalid "not compact JSON that ends with one newline"
# jq reads what shell variables cannot hold; the shape below is exact, so the rest of the script need not ask again.
jq -e '
    def hex: type == "string" and test("^[0-9a-f]{64}\\z");
    def text: type == "string" and test("^[A-Za-z0-9+/]*={0,2}\\z");
    def has_fields($names): type == "object" and keys_unsorted == $names;
    has_fields(["version", "task", "revocations", "roots", "envelopes", "evidence"])
    and .version == "legation-receipt/v1" and (.task | hex)
    and (.revocations | type == "number" and (tostring | test("^[0-9]+\\z")))
    and (.roots | type == "array" and length > 0 and all(hex))
    and (.envelopes | type == "array" and length > 0 and all(
        has_fields(["payloadType", "payload", "signatures"])
        and .payloadType == "application/vnd.in-toto+json" and (.payload | text)
        and (.signatures | type == "array" and length == 1)
        and (.signatures[0] | has_fields(["keyid", "sig"]) and (.keyid | hex) and (.sig | text))))
    and (.evidence | type == "array" and all(
        has_fields(["kind", "report", "endorsements", "binding", "configuration"])
        and ([.report, .binding, .configuration] | all(text))
        and (.endorsements | type == "array" and (length == 1 or length == 2) and all(text))))
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
        grant: .issuer, report: .enclave, aggregate: .enclave, seating: .manager, membership: .enclave}[$kind] // "" | tostring)] | @tsv' \
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

# Input: the statements, in order. Files: the receipt's header, the anchors, digests of the envelopes, names of keys and of
# evidence; each is the one entry of a list.
. as $all
| $receipt[0] as $r | $anchors[0] as $a | $digest[0] as $digests | $id[0] as $ids | $name[0] as $evidence
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
def subject($name; $sha256): {name: $name, digest: {sha256: $sha256}};

def subjects($kind): if $kind == "appointment" then [subject("key"; $ids[.key])]
    elif $kind == "passport" then [subject("enclave"; $ids[.enclave]), subject("evidence"; .evidence)]
    elif $kind == "request" then [.fragments | to_entries[] | .key as $n | .value | subject("fragment-\($n)/module"; .module),
        (.inputs[] | select(.kind == "sealed") | subject("fragment-\($n)/\(.name)"; .ciphertext))]
    elif $kind == "allocation" then [subject("request"; .task)]
    elif $kind == "grant" then [.modules[] | subject("module"; .)]
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
    report: ["enclave", "task", "fragment", "lease", "module", "inputs", "seed", "outcome", "output", "log", "usage", "started", "finished", "prev"],
    aggregate: ["enclave", "task", "fragment", "reports", "result", "privacy", "prev"]}[$kind];

def appointed($i; $digest; $key; $office; $at): ($digest | before($i; "appointment")) as $by
    | need($by != null and $by.key == $key and $by.office == $office; "its signer was not appointed \($office)"),
      need($by != null and $by.not_before - 60 <= $at and $at <= $by.not_after; "the appointment of its signer does not cover its time");

def appointment: .operator as $operator | need($a.operators | index($operator) != null; "its operator is not among the anchors");

def passport($i): . as $p
    | (.claims.anchor.kind == "development") as $development
    | need(.prev | length == 1; "it rests on something else than one appointment"),
      appointed($i; .prev[0]; .verifier; "verifier"; .issued),
      (.prev[0] | before($i; "appointment")) as $by
    | need($p.issued < $p.expires and $p.expires <= $p.issued + 3600 and $p.expires <= $by.not_after; "it lives too long"),
      need($development == ($p.claims.tee.value == "dev-snp"); "anchor and kind of machine do not agree"),
      need($p.ear.status == "warning" or ($p.ear.status == "affirming" and ($development | not)); "its status is \($p.ear.status)");

def request($i):
    need(.created < .expires and .expires <= .created + 604800; "its life is out of bounds"),
    need(.assurance == "attested"; "an assurance that is not known here"),
    need((.fragments | length) >= 1 and (.fragments | length) <= 256; "it has no fragment, or too many"),
    need([.fragments | to_entries[] | .key as $n | .value.inputs[] | select(.kind == "output") | .fragment >= 0 and .fragment < $n] | all;
        "a fragment reads one that does not stand before it"),
    need((.prev | once) and (.prev | all(before($i; "report") != null or before($i; "aggregate") != null));
        "it builds on something else than reports or aggregates, each once");

def allocation($i): . as $p | request_of($i) as $request
    | need($request != null and .prev[0] == .task and (.prev | length == 2 or length == 3); "it does not rest on its request"),
      appointed($i; .prev[1]; .manager; "manager"; .from),
      need($request.fragments[.fragment] != null; "the request has no such fragment"),
      need($request.created - 60 <= .from and .from <= $request.expires and .from <= .until; "it does not begin within its request"),
      need((.prev | length) == 2 or (.prev[2] | before($i; "allocation")
        | . != null and .task == $p.task and .fragment == $p.fragment and .lease < $p.lease and .term <= $p.term
        and .revocations <= $p.revocations); "it does not replace an earlier allocation of its fragment");

def grant($i): . as $p | request_of($i) as $request
    | if $request == null then "it does not rest on its request" else
      need(.prev == [.task]; "it does not rest on its request alone"),
      need(.expires <= $request.expires and .budget <= $request.budget and .depth == 0; "it exceeds its request"),
      need(.fragments | length > 0 and . == unique; "its fragments are not ascending"),
      need(.subject.kind == "enclave" or (.subject.kind == "policy" and .releases == []); "a policy grant that releases keys"),
      ($p.fragments[] | $request.fragments[.] as $f
        | if $f == null then "the request has no such fragment" else
          need($p.modules | index($f.module) != null; "it is for another module than its fragment's"),
          need($p.fuel <= $f.demand.fuel; "it allows more fuel than its fragment asks for"),
          need(($f | owner($request)) == $p.issuer or ([$f.inputs[] | . as $input | $f | holder($request; $input) == $p.issuer] | any);
            "its issuer neither owns the fragment nor holds an input of it") end),
      need([$p.modules[] as $m | [$p.fragments[] | $request.fragments[.].module == $m] | any] | all; "it allows a module that no fragment of it runs"),
      need([$p.releases[] as $object | [$p.fragments[] | $request.fragments[.] as $f | $f.inputs[] | . as $input
        | ($f | holder($request; $input)) == $p.issuer and ($input.kind == "output" or $input.object == $object)] | any] | all;
        "it releases an object that its issuer does not hold") end;

def report($i): . as $p | request_of($i) as $request
    | (.prev[0] | before($i; "allocation")) as $allocation
    | (.prev[1] | before($i; "passport")) as $passport
    | [.prev[2:][] | . as $d | before($i; "grant") | select(. != null) | {d: $d, p: .}] as $grants
    | [.prev[2:][] | . as $d | before($i; "report") | select(. != null) | {d: $d, p: .}] as $reports
    | if $request == null or $allocation == null or $passport == null then "it does not rest on a request, an allocation and a passport" else
      $request.fragments[.fragment] as $f
    | if $f == null then "the request has no such fragment" else
      need(.prev[2:] == [($grants, $reports)[].d] and ([$grants[].d] | . == unique); "it does not rest on grants in ascending order, then reports"),
      need($passport.enclave == .enclave; "its passport is another enclave's"),
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
      need(.prev[1:] == .reports and .reports != [] and .reports == [$own.prev[] | select(before($i; "report") != null)];
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
        need(($s.predicate | keys) == (fields($kind) | sort); "unknown or missing fields in the predicate"),
        need($s.subject == ($s.predicate | subjects($kind)); "its subjects are not those of its predicate"),
        ($s.predicate | if $kind == "appointment" then appointment elif $kind == "passport" then passport($i)
            elif $kind == "request" then request($i) elif $kind == "allocation" then allocation($i)
            elif $kind == "grant" then grant($i) elif $kind == "report" then report($i) else aggregate($i) end)
      ) catch "it cannot be checked: \(.)"][0])] | select(.[1] != null)]) as $faults
| (reduce $r.roots[] as $d ({order: [], missing: []}; visit($d))) as $walk
| [$all[] | select(.predicateType == "https://legation.dev/report/v1") | .predicate] as $reports
| ($by[$r.task] | select(. != null and .kind == "request") | .p) as $request
| ([$request.fragments[].inputs[] | select(.kind == "output") | .fragment] | unique) as $read
| [$r.roots[] | $by[.] | select(. != null) | if .kind == "aggregate" then $by[.p.prev[0]].p elif .kind == "report" then .p else null end] as $ends
| [ try (need($walk.missing == []; "a statement that another rests on is missing: \($walk.missing[0])"),
    need($walk.order == $digests; "statements were reordered, added or removed"),
    need([$reports[] | [.task, .fragment]] | once; "a fragment was reported twice"),
    need([$all[] | select(.predicateType == "https://legation.dev/aggregate/v1") | .predicate | [.task, .fragment]] | once; "a fragment was aggregated twice"),
    ([$all[] | select(.predicateType == "https://legation.dev/passport/v1") | .predicate.evidence] as $wanted
        | need($wanted - $evidence == []; "the evidence behind a passport is missing"),
          need($evidence - $wanted == []; "evidence that no passport names")),
    need([$reports | group_by(.task)[] | ([.[] | cost([.usage.micros, $by[.task].p.fragments[.fragment].demand.time * 1000] | min)] | add) <= $by[.[0].task].p.budget] | all; "a task cost more than its budget"),
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
chain=$(jq -c '.[1]' "$tmp/opened" | jq -s -c --slurpfile receipt <(jq -c 'del(.envelopes, .evidence)' "$receipt") --slurpfile anchors "$anchors" \
    --slurpfile digest "$tmp/digests" --slurpfile id "$tmp/ids" --slurpfile name "$tmp/names" -f "$tmp/chain.jq" 2>"$tmp/why") ||
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
names=$(jq -r '.anchors | join(", ")' <<<"$chain")
standing=
case $names in *development*) standing=" (development: proves the protocol, not confidentiality)" ;; esac
echo "receipt valid$standing: task $(jq -r '.task[:12]' "$receipt") $(jq -r 'if .completed then "completed" else "failed" end' <<<"$chain"); anchors $(plain "$names")"
