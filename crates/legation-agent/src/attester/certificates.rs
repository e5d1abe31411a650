//! Certificates out of files and out of hosts' tables, as bytes: DER, or PEM with several. What is in them is for the verifier.

use std::{fs, io::Read, path::Path};

use legation_core::{claims::ENDORSEMENTS_MAX, encoding};

use super::AttesterError;

/// Largest certificate, in bytes.
pub(crate) const CERTIFICATE_MAX: usize = 8 * 1024;
/// Largest file of certificates, in bytes.
const FILE_MAX: u64 = 64 * 1024;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// All certificates of a file, in order; at least one.
pub(crate) fn read(file: &Path) -> Result<Vec<Vec<u8>>, AttesterError> {
    let failed = |source| AttesterError::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(file).map_err(failed)?.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    all(&bytes).map_err(|why| AttesterError::Certificates { file: file.to_owned(), why })
}

/// The first certificate in `bytes`.
pub(crate) fn one(bytes: &[u8]) -> Result<Vec<u8>, String> {
    all(bytes)?.into_iter().next().ok_or_else(|| "no certificate".to_owned())
}

fn all(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.contains(BEGIN)) else {
        let certificate = der(bytes).ok_or("neither PEM nor DER of a certificate")?;
        return Ok(vec![certificate.to_vec()]);
    };
    let mut found = Vec::new();
    for part in text.split(BEGIN).skip(1) {
        let (body, _) = part.split_once(END).ok_or("PEM without an end")?;
        let body: String = body.split_whitespace().collect();
        let bytes = encoding::unbase64(&body).map_err(|_| "PEM that is not base64")?;
        found.push(der(&bytes).ok_or("PEM of something else than a certificate")?.to_vec());
        if found.len() > ENDORSEMENTS_MAX {
            return Err(format!("more than {ENDORSEMENTS_MAX} certificates"));
        }
    }
    Ok(found)
}

/// The one DER sequence at the beginning of `bytes`, of at most [`CERTIFICATE_MAX`] bytes: where certificates are kept in slots
/// of a fixed size, something follows them.
pub(crate) fn der(bytes: &[u8]) -> Option<&[u8]> {
    let length = match bytes {
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        [0x30, 0x81, low, ..] => 3 + usize::from(*low),
        _ => return None,
    };
    bytes.get(..length).filter(|certificate| certificate.len() <= CERTIFICATE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(length: u16, fill: u8) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        [vec![0x30, 0x82, high, low], vec![fill; length.into()]].concat()
    }

    #[test]
    fn der_is_cut_where_it_ends() {
        let whole = certificate(300, 7);
        let padded = [whole.clone(), vec![0xff; 40]].concat();
        assert_eq!(der(&padded), Some(&whole[..]));
        assert_eq!(one(&padded), Ok(whole.clone()));
        for (name, bad) in [
            ("nothing", vec![]),
            ("cut", whole[..200].to_vec()),
            ("no sequence", vec![0xff; 100]),
            ("too large", certificate(9000, 1)),
            ("its length cut", vec![0x30, 0x82]),
        ] {
            assert_eq!(der(&bad), None, "{name}");
        }
    }

    #[test]
    fn pem_may_hold_several_and_text_between_them() {
        let (a, b) = (certificate(300, 7), certificate(301, 8));
        let block = |der: &[u8]| format!("{BEGIN}\n{}\n{END}\n", encoding::base64(der));
        let text = format!("subject: a\n{}issuer: b\r\n{}", block(&a), block(&b));
        assert_eq!(all(text.as_bytes()), Ok(vec![a.clone(), b]));
        for (bad, why) in [
            (format!("{BEGIN}\nAAAA"), "without an end"),
            (format!("{BEGIN}\n****\n{END}"), "not base64"),
            (format!("{BEGIN}\nAAAA\n{END}"), "something else"),
            (block(&a).repeat(ENDORSEMENTS_MAX + 1), "more than"),
            ("text".to_owned(), "neither PEM nor DER"),
        ] {
            assert!(all(bad.as_bytes()).unwrap_err().contains(why), "{bad}");
        }
    }
}
