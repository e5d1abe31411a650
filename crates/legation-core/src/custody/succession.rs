//! Who has a swarm key, one committee after the other: the fold over charters, calls and words, in the order of the journal.
//!
//! At most one call is open. The next attempt may begin when the one before it came to nothing, or as soon as the manager knows of another
//! revocation, which may be a member's; and never once all new members have confirmed: old ones may have erased their shares by then.

use super::{
    board::{Board, Phase, Took},
    call::{Committee, CustodyCall},
    charter::Charter,
    words::CustodyWord,
};
use crate::{digest::Digest, dsse::Signed, rejection::Rejection, time::UnixTime};

/// Who has a swarm key, and who is to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Succession {
    charter: Signed<Charter>,
    committee: Option<Committee>,
    /// The ceremony that is under way, or came to nothing.
    open: Option<Board>,
    /// That by which the committee came into force: late handovers still arrive.
    past: Option<Board>,
    last: Option<Signed<CustodyCall>>,
}

fn refuse(check: &str, claim: &str) -> Rejection {
    Rejection::new(check, claim)
}

impl Succession {
    /// A swarm key that nobody has yet. Whether the charter's operator may speak for it is for the caller.
    ///
    /// # Errors
    /// The charter breaks its own rules.
    pub fn begin(charter: Signed<Charter>) -> Result<Self, Rejection> {
        charter.validate()?;
        Ok(Self { charter, committee: None, open: None, past: None, last: None })
    }

    /// A new charter: the next call goes by it; one that is open goes by its own. Whether its operator may speak for the swarm key is for the
    /// caller.
    ///
    /// # Errors
    /// It breaks its own rules, or does not follow the one before.
    pub fn charter(&mut self, charter: Signed<Charter>) -> Result<(), Rejection> {
        if charter.digest() == self.charter.digest() {
            return Ok(());
        }
        charter.validate()?;
        charter.check_follows(&self.charter)?;
        self.charter = charter;
        Ok(())
    }

    /// A call, which the journal had `at`. The same again changes nothing.
    ///
    /// # Errors
    /// `custody.open`: another is under way; `custody.attempt`, `custody.prev`, `custody.term`, `custody.stale`, `custody.dates`: it does not
    /// follow the one before; or it does not follow charter and committee.
    pub fn call(&mut self, call: Signed<CustodyCall>, at: UnixTime) -> Result<(), Rejection> {
        if self.last.as_ref().is_some_and(|last| last.digest() == call.digest()) {
            return Ok(());
        }
        let goes_on = |board: &&Board| {
            let overtaken = board.agreed().is_none() && call.revocations > board.call().revocations;
            !overtaken && !matches!(board.phase(at), Phase::Lapsed(_))
        };
        if let Some(board) = self.open.as_ref().filter(goes_on) {
            return Err(refuse("custody.open", "call")
                .expected("none while another is under way")
                .got(format!("attempt {} of epoch {} is", board.call().attempt, board.epoch()))
                .fix("wait until it is in force or its time is over"));
        }
        if !(call.called..=call.expires).contains(&at) {
            return Err(refuse("custody.dates", "time of the call")
                .expected(format!("{} to {}", call.called, call.expires))
                .got(at));
        }
        self.check_after(&call)?;
        let board = Board::open(call.clone(), &self.charter, self.committee.as_ref())?;
        self.open = Some(board);
        self.last = Some(call);
        Ok(())
    }

    fn check_after(&self, call: &CustodyCall) -> Result<(), Rejection> {
        let last = self.last.as_ref();
        let again = last.filter(|last| last.from == call.from);
        let attempt = again.map_or(Some(1), |last| last.attempt.checked_add(1));
        if Some(call.attempt) != attempt {
            return Err(refuse("custody.attempt", "number of the attempt")
                .expected(attempt.map_or_else(|| "none".to_owned(), |a| a.to_string()))
                .got(call.attempt));
        }
        if call.prev.get(2).copied() != last.map(Signed::digest) {
            return Err(refuse("custody.prev", "call before this one")
                .expected(last.map_or_else(|| "none".to_owned(), |last| last.digest().to_string()))
                .got(call.prev.get(2).map_or_else(|| "none".to_owned(), Digest::to_string)));
        }
        let Some(last) = last else { return Ok(()) };
        if call.term < last.term {
            return Err(refuse("custody.term", "term of the manager").expected(last.term.0).got(call.term.0));
        }
        if call.revocations < last.revocations {
            return Err(refuse("custody.stale", "revocations that the call knows of")
                .expected(format!("{} or more", last.revocations.0))
                .got(call.revocations.0));
        }
        Ok(())
    }

    /// A word, which the journal had `at`.
    ///
    /// # Errors
    /// Why it does not count; `custody.open` where no ceremony is there to hear it.
    pub fn say(&mut self, word: &CustodyWord, at: UnixTime) -> Result<Took, Rejection> {
        let late = |board: &Board| match word {
            CustodyWord::Chair(word) => word.call == board.call().digest(),
            CustodyWord::Dealing(word) => Some(word.ceremony) == board.ceremony(),
            CustodyWord::Acceptance(word) => Some(word.ceremony) == board.ceremony(),
            CustodyWord::Refusal(word) => Some(word.ceremony) == board.ceremony(),
            CustodyWord::Confirmation(word) => Some(word.ceremony) == board.ceremony(),
            CustodyWord::Handover(word) => word.epoch == board.epoch(),
        };
        if let Some(past) = self.past.as_mut().filter(|past| late(past)) {
            return past.absorb(word, at);
        }
        let Some(open) = &mut self.open else {
            return Err(refuse("custody.open", "word of a ceremony").expected("one that is under way").got("none"));
        };
        let took = open.absorb(word, at)?;
        if let Some(committee) = open.committee() {
            self.committee = Some(committee);
            self.past = self.open.take();
        }
        Ok(took)
    }

    /// The newest charter.
    pub fn current_charter(&self) -> &Signed<Charter> {
        &self.charter
    }

    /// The committee in force.
    pub fn committee(&self) -> Option<&Committee> {
        self.committee.as_ref()
    }

    /// The ceremony that is under way, or came to nothing.
    pub fn open(&self) -> Option<&Board> {
        self.open.as_ref()
    }

    /// The ceremony by which the committee came into force.
    pub fn past(&self) -> Option<&Board> {
        self.past.as_ref()
    }
}
