#!/usr/bin/env bash
# Checks that the results of a receipt, and with them its statements, are in a transparency log, with openssl (3.0 or newer),
# jq (1.6 or newer) and the usual GNU tools: no code of Legation takes part.
#
#   docs/check-log.sh RECEIPT ANCHORS
#
# The statements themselves are checked by docs/check-receipt.sh. Exit code 0: the results are in a log that ANCHORS name, what else
# is said to be there is, and as many witnesses cosigned as they demand; 1: they are not; 2: wrong usage, or a tool is missing.
# docs/log.md explains each step.
set -euo pipefail
export LC_ALL=C

[ $# = 2 ] || { echo "usage: $0 RECEIPT ANCHORS" >&2; exit 2; }
receipt=$1 anchors=$2
for tool in openssl jq sha256sum base64 od cmp stat; do
    command -v "$tool" >/dev/null || { echo "$0: needs $tool" >&2; exit 2; }
done
for file in "$receipt" "$anchors"; do
    [ -f "$file" ] && [ -r "$file" ] || { echo "$0: cannot read $file, or it is no plain file" >&2; exit 2; }
done

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

plain() { printf '%s' "${1//[^[:print:]]/?}"; }
invalid() {
    echo "log INVALID: $(plain "$*")"
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
sha() { sha256sum | cut -c1-64; }

# --- 0. Sizes: nothing here would end on a file without one, nor soon on a huge one. ------------------------------------------------
bytes=$(stat -L -c %s "$receipt")
[ "$bytes" -le 67108864 ] || invalid "the receipt has $bytes bytes, and may have at most 67108864"
bytes=$(stat -L -c %s "$anchors")
[ "$bytes" -le 4194304 ] || invalid "the anchors have $bytes bytes, and may have at most 4194304"

# --- 1. The section: a checkpoint, hashes, and a proof for each envelope. --------------------------------------------------------
jq -c . "$receipt" 2>/dev/null | cmp -s - "$receipt" || invalid "the receipt is not compact JSON that ends with one newline"
jq -e '
    def hash: type == "string" and test("^[0-9a-f]{64}\\z");
    def number: type == "number" and (tostring | test("^[0-9]{1,15}\\z"));
    (.log.nodes | length) as $nodes
    | (.log | type == "object" and keys_unsorted == ["checkpoint", "nodes", "proofs"])
    and (.log.checkpoint | type == "string") and (.log.nodes | type == "array" and all(hash))
    and (.log.proofs | type == "array" and all(. == null or (
        type == "object" and keys_unsorted == ["index", "path"] and (.index | number)
        and (.path | type == "array" and length < 64 and all(number and . < $nodes)))))
    and (.log.proofs | length) == (.envelopes | length)
    and (.roots | type == "array" and length > 0 and all(hash))
' "$receipt" >/dev/null 2>&1 || invalid "the receipt has no log section of the form"

# --- 2. The checkpoint: a text, an empty line, signatures (c2sp.org/signed-note, tlog-checkpoint). --------------------------------
jq -j '.log.checkpoint' "$receipt" >"$tmp/note"
empty=$(grep -n '^$' "$tmp/note" | tail -n 1 | cut -d: -f1) || invalid "the checkpoint is no signed note"
head -n $((empty - 1)) "$tmp/note" >"$tmp/text"
tail -n +$((empty + 1)) "$tmp/note" >"$tmp/signatures"
{ read -r origin && read -r size && read -r root64; } <"$tmp/text" || invalid "the checkpoint has not origin, size and root"
[[ $size =~ ^(0|[1-9][0-9]{0,14})$ ]] || invalid "the size of the checkpoint is no number"
decode "$root64" "$tmp/root" && [ "$(wc -c <"$tmp/root")" = 32 ] || invalid "the root of the checkpoint is not 32 bytes"
root=$(hex "$tmp/root")

spki() { # TEXT FILE: an Ed25519 key as openssl reads it (RFC 8410)
    decode "$1" "$tmp/raw" && [ "$(wc -c <"$tmp/raw")" = 32 ] || return 1
    { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00' && cat "$tmp/raw"; } >"$2"
}
key_id() { # NAME KIND: of the key in $tmp/raw: the first 4 bytes of SHA-256(name, newline, kind, key)
    { printf '%s\n' "$1" && unhex "$2" && cat "$tmp/raw"; } | sha | cut -c1-8
}
signature_of() { # NAME ID FILE: the signature under this name and id, without the id; fails where there is none
    local line found=1
    while IFS= read -r line; do
        [[ $line == $'\xe2\x80\x94 '"$1 "* ]] || continue
        decode "${line##* }" "$tmp/signature" || invalid "a signature of the checkpoint is not canonical base64"
        [ "$(hex -N 4 "$tmp/signature")" = "$2" ] || continue
        tail -c +5 "$tmp/signature" >"$3"
        found=0
    done <"$tmp/signatures"
    return $found
}
signed() { # KEY MESSAGE SIGNATURE
    openssl pkeyutl -verify -pubin -keyform DER -inkey "$1" -rawin -in "$2" -sigfile "$3" >/dev/null 2>&1
}

jq -e '
    def distinct: length == (unique | length);
    (.logs // []) | (map(.origin) | distinct)
    and all(.[]; (.witnesses // []) | (map(.name) | distinct) and (map(.key) | distinct))
' "$anchors" >/dev/null 2>&1 || invalid "the anchors name a log twice, or a witness of one under two names or keys"
log=$(jq -c --arg origin "$origin" '[.logs[]? | select(.origin == $origin)][0] // empty' "$anchors")
[ -n "$log" ] || invalid "the anchors name no log $origin"
spki "$(jq -r .key <<<"$log")" "$tmp/log.der" || invalid "the key of the log in the anchors is no Ed25519 key"
signature_of "$origin" "$(key_id "$origin" 01)" "$tmp/log.sig" || invalid "the log has not signed the checkpoint"
signed "$tmp/log.der" "$tmp/text" "$tmp/log.sig" || invalid "the signature of the log does not verify"

# --- 3. Witnesses: time and text, signed (c2sp.org/tlog-cosignature). ---------------------------------------------------------------
witnesses=0
while IFS=$'\t' read -r name key; do
    [ -n "$name" ] || continue
    spki "$key" "$tmp/witness.der" || invalid "the key of witness $name is no Ed25519 key"
    signature_of "$name" "$(key_id "$name" 04)" "$tmp/timed" || continue
    at=$((16#$(hex -N 8 "$tmp/timed")))
    tail -c +9 "$tmp/timed" >"$tmp/witness.sig"
    { printf 'cosignature/v1\ntime %d\n' "$at" && cat "$tmp/text"; } >"$tmp/cosigned"
    signed "$tmp/witness.der" "$tmp/cosigned" "$tmp/witness.sig" || invalid "the signature of witness $name does not verify"
    witnesses=$((witnesses + 1))
done < <(jq -r '.witnesses[]? | [.name, .key] | @tsv' <<<"$log")
quorum=$(jq -r '.quorum // 0' <<<"$log")
[ "$witnesses" -ge "$quorum" ] || invalid "$witnesses witnesses cosigned the checkpoint, and the anchors demand $quorum"

# --- 4. Inclusion of every envelope's digest (RFC 9162 section 2.1.3.2). -------------------------------------------------------------
mapfile -t node < <(jq -r '.log.nodes[]' "$receipt")
[ -z "$(printf '%s\n' "${node[@]}" | sort | uniq -d)" ] || invalid "a hash stands there more than once"
mapfile -t digest < <(jq -r '.envelopes[] | @json' "$receipt" | while IFS= read -r envelope; do
    printf '%s' "$envelope" | sha
done)
declare -A made=()
joined() { # LEFT RIGHT: the hash of two subtrees, in $hash; most are needed more than once
    hash=${made[$1$2]:-}
    [ -n "$hash" ] && return
    hash=$(unhex "01$1$2" | sha)
    made[$1$2]=$hash
}
# Statements name by digest what they rest on, and a receipt is what its roots rest on: where the roots are in the log, they bind the
# others, also those that have no proof of their own.
roots=" $(jq -r '.roots | join(" ")' "$receipt") "
for root_of_receipt in $roots; do
    [[ " ${digest[*]} " == *" $root_of_receipt "* ]] || invalid "a result that is no statement of this receipt"
done
used=0 number=-1 proved=0
while IFS=$'\t' read -r index path; do
    number=$((number + 1))
    what="envelope $number (${digest[number]:0:12})"
    if [ "$index" = none ]; then
        [[ $roots != *" ${digest[number]} "* ]] || invalid "$what: a result without a proof"
        continue
    fi
    [ "$index" -lt "$size" ] || invalid "$what: entry $index lies beyond the checkpoint"
    hash=$(unhex "00${digest[number]}" | sha)
    at=$index last=$((size - 1))
    for place in $path; do
        [ "$place" -le "$used" ] || invalid "$what: the hashes do not stand in the order of first use"
        [ "$place" -lt "$used" ] || used=$((used + 1))
        [ "$last" -gt 0 ] || invalid "$what: the proof is too long"
        if [ $((at & 1)) = 1 ] || [ "$at" = "$last" ]; then
            joined "${node[place]}" "$hash"
            while [ $((at & 1)) = 0 ] && [ "$at" != 0 ]; do at=$((at >> 1)) last=$((last >> 1)); done
        else
            joined "$hash" "${node[place]}"
        fi
        at=$((at >> 1)) last=$((last >> 1))
    done
    [ "$last" = 0 ] || invalid "$what: the proof is too short"
    [ "$hash" = "$root" ] || invalid "$what: the proof does not lead to the checkpoint: it is not entry $index of the log"
    proved=$((proved + 1))
done < <(jq -r '.log.proofs[] | if . then [.index, (.path | map(tostring) | join(" "))] else ["none", ""] end | @tsv' "$receipt")
[ "$used" = "${#node[@]}" ] || invalid "hashes that no proof uses"
echo "log valid: $proved statements are among the first $size of $origin, cosigned by $witnesses witnesses; they bind the others"
