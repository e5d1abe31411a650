//! What an agent and the manager say to each other about ceremonies of swarm keys ([`legation_core::custody`]): pages of boards, and how much
//! of them is known.
//!
//! ```text
//! agent                                    manager
//!   |<------------------- CustodyChanged   |      something was said, called, or ended; also when a custodian arrives
//!   | AskCustody { open, past } ---------->|      what of each board is known here
//!   |<-------------------------- Custody   |      what there is beyond that; once more while there is `more`
//!   | Custody (a word) ------------------->|      answered by the board alone: said again until it is seen there
//! ```
//! Nothing here is believed but the order of words: whoever reads makes the boards again, and each signature is checked when it is read.

use legation_core::{
    Digest, Signed, SwarmName, UnixTime,
    custody::{Charter, Committee, CustodyCall, CustodyWord},
    statement::Appointment,
};
use serde::{Deserialize, Serialize};

use crate::message::Peer;

/// Most bytes of peers and words in one [`CustodyNews`], as they travel: a control frame takes them with all around them. Words that find no
/// room beside peers come with the next page.
pub const PAGE_MAX: usize = 512 << 10;

/// How much of a board is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// Digest of its call.
    pub call: Digest,
    /// How many of its words, from the first.
    pub words: u32,
}

/// What there is of the ceremonies of a swarm key beyond what was asked with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyNews {
    /// Which swarm key.
    pub swarm: SwarmName,
    /// The newest charter.
    pub charter: Signed<Charter>,
    /// The ceremony by which the committee came into force; nothing where there is none. It is here also where it has nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<BoardNews>,
    /// The ceremony that is under way; nothing where there is none. It is here also where it has nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<BoardNews>,
    /// Those who are called in the open one, as far as they are known, where the question knew nothing of that (not even none of its words).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Whether there is more: to be asked for at once, with what is known by then.
    pub more: bool,
}

/// A part of one board.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardNews {
    /// Its call.
    pub call: Signed<CustodyCall>,
    /// Why whoever called may be believed; nothing where this manager does not have it, as of one that led before. It always has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appointment: Option<Signed<Appointment>>,
    /// The charter that the call is by.
    pub charter: Signed<Charter>,
    /// The committee that hands over; nothing where a key is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Committee>,
    /// How many words come before these: as many as are known by the question, or none.
    pub from: u32,
    /// The words that follow, in order.
    pub words: Vec<Heard>,
}

/// A word on a board.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heard {
    /// The word.
    pub word: CustodyWord,
    /// When the journal had it.
    pub at: UnixTime,
}

impl BoardNews {
    /// How much of the board is known once this is.
    pub fn seen(&self) -> Seen {
        let words = usize::try_from(self.from).unwrap_or(usize::MAX).saturating_add(self.words.len());
        Seen { call: self.call.digest(), words: u32::try_from(words).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use legation_core::{
        ProviderId, Requirement, RevocationEpoch, SealingPublicKey, Signer, Term,
        custody::{Called, Chair, Generation, Threshold},
        dsse,
    };
    use legation_keys::IdentityKey;
    use serde_json::Value;

    use super::*;
    use crate::message::{ToAgent, ToManager};

    fn key(seed: u8) -> IdentityKey {
        IdentityKey::from_seed([seed; 32])
    }

    fn swarm() -> SwarmName {
        SwarmName::new("main").unwrap()
    }

    fn charter() -> Signed<Charter> {
        let said = Charter {
            operator: key(1).public_key(),
            swarm: swarm(),
            number: 1,
            threshold: Threshold::new(2, 3).unwrap(),
            require: Requirement::any(),
            per_provider_max: 1,
            epoch_seconds: 3600,
            not_after: UnixTime(1_900_000_000),
            prev: Vec::new(),
        };
        dsse::sign(said, &key(1))
    }

    fn call(charter: &Signed<Charter>) -> Signed<CustodyCall> {
        let provider = |name| ProviderId::new(name).unwrap();
        let member = |(seed, name)| Called { enclave: key(seed).public_key().enclave_id(), provider: provider(name) };
        let mut members: Vec<Called> = [(5, "alder"), (6, "birch"), (7, "cedar")].map(member).into();
        members.sort_unstable_by_key(|called| called.enclave);
        let said = CustodyCall {
            manager: key(2).public_key(),
            term: Term(1),
            charter: charter.digest(),
            generation: Generation(0),
            from: None,
            attempt: 1,
            threshold: charter.threshold,
            members,
            removed: Vec::new(),
            revocations: RevocationEpoch(0),
            called: UnixTime(1_800_000_000),
            expires: UnixTime(1_800_000_600),
            prev: vec![charter.digest(), Digest::of(b"appointment")],
        };
        dsse::sign(said, &key(2))
    }

    fn chair(call: Digest) -> CustodyWord {
        let passport = Digest::of(b"passport");
        let sealing = SealingPublicKey::from_bytes([7; SealingPublicKey::LEN]);
        let said = Chair { call, enclave: key(5).public_key(), passport, sealing, prev: vec![call, passport] };
        CustodyWord::open(dsse::sign(said, &key(5)).envelope()).unwrap()
    }

    fn news() -> CustodyNews {
        let charter = charter();
        let call = call(&charter);
        let words = vec![Heard { word: chair(call.digest()), at: UnixTime(1_800_000_001) }];
        let open = BoardNews { call, appointment: None, charter: charter.clone(), before: None, from: 0, words };
        CustodyNews { swarm: swarm(), charter, past: None, open: Some(open), peers: Vec::new(), more: false }
    }

    #[test]
    fn news_travel_and_what_is_absent_does_not() {
        let sent = news();
        let text = serde_json::to_string(&ToAgent::Custody(Box::new(sent.clone()))).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["say"], "custody");
        let mut keys: Vec<_> = value["with"].as_object().unwrap().keys().cloned().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["charter", "more", "open", "swarm"]);
        let Ok(ToAgent::Custody(read)) = serde_json::from_str(&text) else { panic!("{text}") };
        let (open, expected) = (read.open.unwrap(), sent.open.unwrap());
        assert_eq!((open.call.digest(), &open.words), (expected.call.digest(), &expected.words));
        assert_eq!(open.seen(), Seen { call: expected.call.digest(), words: 1 });
        let more = text.replacen("\"more\":false", "\"more\":false,\"other\":1", 1);
        assert!(serde_json::from_str::<ToAgent>(&more).is_err());
    }

    #[test]
    fn a_question_and_a_word_travel() {
        let seen = Seen { call: Digest::of(b"call"), words: 3 };
        let ask = ToManager::AskCustody { swarm: swarm(), open: Some(seen), past: None };
        let text = serde_json::to_string(&ask).unwrap();
        let digest = seen.call;
        let expected =
            format!(r#"{{"say":"ask-custody","with":{{"swarm":"main","open":{{"call":"{digest}","words":3}}}}}}"#);
        assert_eq!(text, expected);
        let Ok(ToManager::AskCustody { open, past, .. }) = serde_json::from_str(&text) else { panic!("{text}") };
        assert_eq!((open, past), (Some(seen), None));

        let word = chair(Digest::of(b"call"));
        let text = serde_json::to_string(&ToManager::Custody(Box::new(word.clone()))).unwrap();
        assert_eq!(text, format!(r#"{{"say":"custody","with":{}}}"#, word.envelope().to_json()));
        let Ok(ToManager::Custody(read)) = serde_json::from_str(&text) else { panic!("{text}") };
        assert_eq!(*read, word);
        let changed = serde_json::to_string(&ToAgent::CustodyChanged { swarm: swarm() }).unwrap();
        assert_eq!(changed, r#"{"say":"custody-changed","with":{"swarm":"main"}}"#);
    }

    #[test]
    fn a_forged_word_is_none() {
        let mut sent = serde_json::to_value(news()).unwrap();
        let other = dsse::sign(charter().predicate().clone(), &key(9));
        sent["open"]["words"][0]["word"] = serde_json::to_value(other.envelope()).unwrap();
        assert!(serde_json::from_value::<CustodyNews>(sent.clone()).is_err());
        let word = chair(Digest::of(b"call"));
        let mut forged = serde_json::to_value(&word).unwrap();
        let signature = dsse::sign(charter().predicate().clone(), &key(5));
        let other = serde_json::to_value(signature.envelope()).unwrap();
        forged["signatures"][0]["sig"] = other["signatures"][0]["sig"].clone();
        sent["open"]["words"][0]["word"] = forged;
        assert!(serde_json::from_value::<CustodyNews>(sent).is_err());
    }
}
