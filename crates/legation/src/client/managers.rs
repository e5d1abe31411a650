//! The managers of one pool as a client knows them.

use std::sync::atomic::{AtomicUsize, Ordering};

use legation_core::Rejection;

use crate::exit::{Exit, Failure};

/// Most managers of one pool that a client knows.
pub const MANAGERS_MAX: usize = 16;

/// The managers, and which of them led last.
pub(super) struct Managers {
    /// `host:port` of each API.
    pub(super) apis: Vec<String>,
    pub(super) leader: AtomicUsize,
}

impl Managers {
    /// Reads addresses or `http://` URLs, apart by commas.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            let text = format!("managers `{text}`: {why}; give addresses such as 127.0.0.1:7441, apart by commas");
            Failure::new(Exit::Usage, text)
        };
        let mut apis = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if word.starts_with("https://") {
                return Err(wrong("this client speaks plain HTTP, to a loopback address or a proxy there".to_owned()));
            }
            let api = word.strip_prefix("http://").unwrap_or(word).trim_end_matches('/');
            let good = api.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !good || api.contains('/') {
                return Err(wrong(format!("`{word}` is not host:port")));
            }
            if !apis.iter().any(|known| known == api) {
                apis.push(api.to_owned());
            }
        }
        if apis.is_empty() || apis.len() > MANAGERS_MAX {
            return Err(wrong(format!("{} of them, not 1 to {MANAGERS_MAX}", apis.len())));
        }
        Ok(Self { apis, leader: AtomicUsize::new(0) })
    }

    /// The one that led last.
    pub(super) fn leader(&self) -> usize {
        self.leader.load(Ordering::Relaxed) % self.apis.len()
    }

    /// The one that is named by a manager that stands by, if it is among these.
    pub(super) fn named(&self, why: &Rejection) -> Option<usize> {
        let apart = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')');
        let named = |text: &str, api: &str| text.split(apart).any(|w| w.strip_prefix("http://").unwrap_or(w) == api);
        self.apis.iter().position(|api| [&why.got, &why.fix].iter().any(|text| named(text, api)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_read_from_addresses_and_urls() {
        for (text, expected) in [
            ("127.0.0.1:7441", &["127.0.0.1:7441"][..]),
            ("http://a:1/, b:2 ,a:1,", &["a:1", "b:2"]),
            ("[::1]:7", &["[::1]:7"]),
        ] {
            assert_eq!(Managers::parse(text).ok().unwrap().apis, expected, "{text}");
        }
        for text in ["", ",", "a", "a:b", ":1", "https://a:1", "http://a:1/v1"] {
            assert!(Managers::parse(text).is_err_and(|e| e.exit == Exit::Usage), "{text}");
        }
    }

    #[test]
    fn a_leader_is_believed_where_it_is_among_those_given() {
        let managers = Managers::parse("10.0.0.1:7441,10.0.0.11:7441").ok().unwrap();
        for (got, named) in [
            ("10.0.0.1:7441", Some(0)),
            ("http://10.0.0.11:7441", Some(1)),
            ("10.0.0.111:7441", None),
            ("http://evil:7441", None),
            ("nobody", None),
        ] {
            assert_eq!(managers.named(&Rejection::new("manager.standby", "it").got(got)), named, "{got}");
        }
    }
}
