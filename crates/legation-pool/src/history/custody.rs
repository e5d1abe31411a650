//! Swarm keys: whoever follows charters, calls and words as custodians do must come along.

use legation_core::{
    Digest, Rejection, Signed, SwarmName, Term, UnixTime,
    custody::{Charter, CustodyCall, CustodyWord, Phase, Succession, Took},
};

use super::{HistoryFacts, bad, unless};

/// A swarm key.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct KeyFacts {
    succession: Succession,
    /// The call that came to nothing last.
    ended: Option<Digest>,
}

fn follows(kept: Result<(), Rejection>) -> Result<(), Rejection> {
    kept.map_err(|why| {
        let Rejection { expected, got, .. } = &why;
        bad("history.custody", format!("{}: {}", why.check, why.claim)).expected(expected).got(got)
    })
}

impl HistoryFacts {
    fn swarm_key(&mut self, swarm: &SwarmName) -> Result<&mut KeyFacts, Rejection> {
        let unknown = || bad("history.custody", "a swarm key").expected("one that a charter is for").got(swarm);
        self.swarm_keys.get_mut(swarm).ok_or_else(unknown)
    }

    pub(super) fn chartered(&mut self, charter: &Signed<Charter>) -> Result<(), Rejection> {
        follows(match self.swarm_keys.get_mut(&charter.swarm) {
            Some(known) => known.succession.charter(charter.clone()),
            None => Succession::begin(charter.clone()).map(|succession| {
                self.swarm_keys.insert(charter.swarm.clone(), KeyFacts { succession, ended: None });
            }),
        })
    }

    pub(super) fn asked_for(&mut self, swarm: &SwarmName) -> Result<(), Rejection> {
        self.swarm_key(swarm).map(|_| ())
    }

    /// A call is by who leads, as of all revocations, of enclaves that attested and are not revoked, and follows the one before.
    pub(super) fn called(
        &mut self,
        swarm: &SwarmName,
        call: &Signed<CustodyCall>,
        (term, at): (Term, UnixTime),
    ) -> Result<(), Rejection> {
        let leads = self.terms.last().is_some_and(|t| t.manager == call.manager && t.term == call.term);
        unless(leads && call.term == term && call.revocations == self.revocations, || {
            bad("history.custody", "manager, term and revocations of a call")
                .expected(format!("those that lead, term {}, epoch {}", term.0, self.revocations.0))
                .got(format!("{} in term {}, epoch {}", call.manager.id().short(), call.term.0, call.revocations.0))
        })?;
        for member in &call.members {
            unless(self.enclaves.get(&member.enclave).is_some_and(|book| !book.revoked), || {
                bad("history.custody", "an enclave that is called")
                    .expected("one that attested, not revoked")
                    .got(member.enclave)
            })?;
        }
        let key = self.swarm_key(swarm)?;
        let over = key.succession.open().is_none_or(|open| key.ended == Some(open.call().digest()));
        unless(over, || bad("history.custody", "a call").expected("none before the one that is open has ended"))?;
        follows(key.succession.call(call.clone(), at))
    }

    pub(super) fn said(&mut self, swarm: &SwarmName, word: &CustodyWord, at: UnixTime) -> Result<(), Rejection> {
        let took = self.swarm_key(swarm)?.succession.say(word, at);
        unless(took != Ok(Took::Repeated), || {
            bad("history.custody", format!("a {}", word.kind()))
                .expected("one that was not said before")
                .got("the same")
        })?;
        follows(took.map(|_| ()))
    }

    /// What came to nothing was open, and did: by itself, or because something was revoked.
    pub(super) fn call_ended(&mut self, swarm: &SwarmName, call: Digest, at: UnixTime) -> Result<(), Rejection> {
        let revocations = self.revocations;
        let key = self.swarm_key(swarm)?;
        let ends = key.succession.open().is_some_and(|open| {
            let overtaken = open.agreed().is_none() && revocations > open.call().revocations;
            open.call().digest() == call && (overtaken || matches!(open.phase(at), Phase::Lapsed(_)))
        });
        unless(ends && key.ended != Some(call), || {
            bad("history.custody", "a call that ends").expected("one that is open, and cannot go on").got(call)
        })?;
        key.ended = Some(call);
        Ok(())
    }
}
