//! The digest that is made public: `ExecutionClaim::public_value` of the crate `legation-core`, computed from the witness.

use crate::{Refused, Sha256, Witness};

const DOMAIN: &[u8] = b"legation-execution-v1";
/// Said last of all.
const OK: &[u8] = b"ok\0\x01";
const BLOCK: usize = 64;

/// HMAC-SHA256 (RFC 2104) under a key of 32 bytes: the commitment to `data`.
pub fn hmac(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha256::new();
    inner.update(&pad(0x36));
    inner.update(data);
    let mut outer = Sha256::new();
    outer.update(&pad(0x5c));
    outer.update(&inner.finish());
    outer.finish()
}

/// The digest of an execution of `witness` that wrote `output` and ended well.
///
/// # Errors
/// There is output and no key to commit to it.
pub fn claim(witness: &Witness, output: &[u8]) -> Result<[u8; 32], Refused> {
    let output = match &witness.output_key {
        Some(key) => Some(hmac(key, output)),
        None if output.is_empty() => None,
        None => return Err(Refused::Uncommitted),
    };
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(&Sha256::of(&witness.module));
    hash.update(&args(&witness.args));
    hash.update(&witness.seed);
    hash.update(&witness.clock.to_be_bytes());
    hash.update(&count(witness.inputs.len()));
    for (key, input) in &witness.inputs {
        hash.update(&hmac(key, input));
    }
    match output {
        Some(output) => {
            hash.update(&[1]);
            hash.update(&output);
        }
        None => hash.update(&[0; 33]),
    }
    hash.update(OK);
    Ok(hash.finish())
}

fn args(args: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(&count(args.len()));
    for arg in args {
        hash.update(&count(arg.len()));
        hash.update(arg.as_bytes());
    }
    hash.finish()
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}
