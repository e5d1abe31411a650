//! What is said and done once it is durable, and who is told that it is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use legation_core::{EnclaveId, Rejection, Seq};
use legation_net::message::{Enlist, Lending, Offer, Peer, ToAgent, Upstream};
use legation_pool::{Brief, Command, EnlistParts, LoanParts, OfferParts, Record};

use super::{Batch, LOSS_AGAIN, Manager, Outcome, Reply, standing_by, transient};
use crate::{
    defect::Defect,
    ether::Ether,
    message::{Answer, Connection, Down, Message, Node, Timer},
    store::Store,
};

/// The check that the store did not answer.
const AWAY: &str = "archive.store";

impl Manager {
    pub(super) fn is_good(&self, ether: &Ether) -> bool {
        ether.now < self.good_until || ether.is(Defect::LeadsAfterExpiry)
    }

    pub(super) fn deliver_if_good(&mut self, ether: &mut Ether, store: &mut Store, batch: Batch) {
        if self.is_good(ether) {
            self.deliver(ether, store, batch);
        } else {
            ether.reach("manager: does not answer when its term may be over");
            self.refuse(ether, batch, &standing_by());
        }
    }

    pub(super) fn deliver(&mut self, ether: &mut Ether, store: &mut Store, batch: Batch) {
        for outcome in batch.outcomes {
            self.does(ether, Some(store), outcome);
        }
    }

    pub(super) fn does(&mut self, ether: &mut Ether, store: Option<&mut Store>, outcome: Outcome) {
        match outcome {
            Outcome::Verdict(reply, verdict) => self.reply(ether, reply, verdict),
            Outcome::View { to, number, view } => {
                let told = view.and_then(|(state, needs)| {
                    let proofs: Vec<_> = needs.iter().map(|need| need.proof.clone()).collect();
                    let records = self.records(ether, store, &proofs)?;
                    let needs = needs.into_iter().map(|need| need.whole(&records)).collect::<Result<_, _>>()?;
                    Ok(Answer::View { state, needs })
                });
                let answer = told.unwrap_or_else(|why| self.refusal(ether, why));
                ether.send(self.node(), to, Message::Answer { number, answer: Rc::new(answer) });
            }
            Outcome::Offer(enclave, parts) => match self.whole_offer(ether, store, *parts) {
                Ok(offer) => self.say(ether, enclave, ToAgent::Offer(Box::new(offer))),
                // Its agent is offered it when it comes again, or the lease ends.
                Err(why) => drop(self.refusal(ether, why)),
            },
            Outcome::Enlist(enclave, parts) => match self.whole_enlist(ether, store, *parts) {
                Ok(enlist) => self.say(ether, enclave, ToAgent::Enlist(Box::new(enlist))),
                // It is asked again when it comes again, or loses its seat.
                Err(why) => drop(self.refusal(ether, why)),
            },
            Outcome::Lend(enclave, parts) => match self.whole_loan(ether, store, *parts) {
                Ok(lending) => self.say(ether, enclave, ToAgent::Lend(Box::new(lending))),
                // It is told again when it comes again, or the loan ends.
                Err(why) => drop(self.refusal(ether, why)),
            },
            Outcome::Lent(enclave, ask, parts) => match self.whole_loan(ether, store, *parts) {
                Ok(lending) => self.say(ether, enclave, ToAgent::Lent { ask, loan: Box::new(lending) }),
                Err(why) => drop(self.refusal(ether, why)),
            },
            Outcome::LoanEnded(enclave, loan, why) => self.say(ether, enclave, ToAgent::LoanEnded { loan, why }),
            Outcome::Cancel(enclave, lease) => self.say(ether, enclave, ToAgent::Cancel { lease }),
            Outcome::Reattest(enclave, why) => self.say(ether, enclave, ToAgent::Reattest { why }),
            Outcome::CustodyChanged(enclave) => {
                // Without a channel it is told when it arrives.
                if let Some((connection, agent)) = self.links.get(&enclave).copied() {
                    self.down(ether, agent, connection, Down::CustodyChanged);
                }
            }
            Outcome::CustodyNews { agent, connection, news } => {
                self.down(ether, agent, connection, Down::Custody(news));
            }
            Outcome::Close(enclave, why) => {
                if let Some((connection, agent)) = self.links.get(&enclave).copied() {
                    self.close(ether, agent, connection, why);
                }
            }
            Outcome::Revocations(list) => {
                self.revoked = list.clone();
                for (connection, agent) in self.links.values().copied().collect::<Vec<_>>() {
                    self.down(ether, agent, connection, Down::Revocations(list.clone()));
                }
            }
            Outcome::Snapshot(pool) => {
                let (Some(store), Ok(bytes)) = (store, pool.snapshot()) else { return };
                let (saved, _) = store.visit(ether, self.node(), |journal| journal.save_snapshot(pool.seq(), &bytes));
                ether.reach(if saved.is_ok() {
                    "manager: saves a snapshot"
                } else {
                    "manager: fails to save a snapshot"
                });
            }
        }
    }

    /// Refuses whoever waits for a batch that has not happened.
    pub(super) fn refuse(&mut self, ether: &mut Ether, batch: Batch, why: &Rejection) {
        for outcome in batch.outcomes {
            match outcome {
                Outcome::Verdict(reply, _) => self.reply(ether, reply, Err(why.clone())),
                Outcome::View { to, number, .. } => {
                    let answer = Rc::new(Answer::Refused(why.clone()));
                    ether.send(self.node(), to, Message::Answer { number, answer });
                }
                _ => {}
            }
        }
    }

    /// Tells what a batch came to, and does nothing: it happened, and another leads.
    pub(super) fn tell_verdicts(&mut self, ether: &mut Ether, batch: Batch) {
        for outcome in batch.outcomes {
            match outcome {
                Outcome::Verdict(reply, verdict) => self.reply(ether, reply, verdict),
                Outcome::View { to, number, .. } => {
                    let answer = Rc::new(Answer::Refused(standing_by()));
                    ether.send(self.node(), to, Message::Answer { number, answer });
                }
                _ => {}
            }
        }
    }

    /// The records behind these proofs, read as the product does: the pool has them in brief.
    fn records(
        &self,
        ether: &mut Ether,
        store: Option<&mut Store>,
        proofs: &[Brief],
    ) -> Result<BTreeMap<Seq, Record>, Rejection> {
        let at: BTreeSet<Seq> = proofs.iter().flat_map(Brief::positions).collect();
        if at.is_empty() {
            return Ok(BTreeMap::new());
        }
        let away = || Rejection::new(AWAY, "reading the journal");
        let (read, _) = store.ok_or_else(away)?.visit(ether, self.node(), |journal| {
            let records = at.iter().map(|at| journal.record(*at));
            records.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        });
        let records = read.map_err(|_| away())?;
        Ok(records.into_iter().map(|record| (record.seq, record)).collect())
    }

    /// What a client is told of a proof that could not be read: the store may be away, but it must not have lost it.
    fn refusal(&self, ether: &mut Ether, why: Rejection) -> Answer {
        if why.check == AWAY {
            ether.reach("manager: a proof cannot be read now");
        } else if why.check.starts_with("archive.") {
            ether.violate(format!("a proof is not where the pool says: {why}"));
        }
        Answer::Refused(why)
    }

    fn whole_enlist(
        &self,
        ether: &mut Ether,
        store: Option<&mut Store>,
        parts: EnlistParts,
    ) -> Result<Enlist, Rejection> {
        let records = self.records(ether, store, &parts.members)?;
        let members = parts.members.into_iter().map(|member| {
            let proof = member.whole(&records)?;
            Ok(Peer { passport: proof.passport, appointment: proof.appointment })
        });
        Ok(Enlist {
            term: parts.term,
            seq: parts.seq,
            seating: parts.seating,
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
            members: members.collect::<Result<_, Rejection>>()?,
        })
    }

    fn whole_loan(&self, ether: &mut Ether, store: Option<&mut Store>, parts: LoanParts) -> Result<Lending, Rejection> {
        let records = self.records(ether, store, std::slice::from_ref(&parts.other))?;
        let other = parts.other.whole(&records)?;
        Ok(Lending {
            term: parts.term,
            seq: parts.seq,
            allocation: parts.allocation,
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
            borrower: parts.borrower,
            other: Peer { passport: other.passport, appointment: other.appointment },
        })
    }

    fn whole_offer(&self, ether: &mut Ether, store: Option<&mut Store>, parts: OfferParts) -> Result<Offer, Rejection> {
        let proofs: Vec<_> = parts.upstream.iter().map(|up| up.proof.clone()).collect();
        let records = self.records(ether, store, &proofs)?;
        let upstream = parts.upstream.into_iter().map(|up| {
            let proof = up.proof.whole(&records)?;
            Ok(Upstream { report: up.report, passport: proof.passport, appointment: proof.appointment })
        });
        Ok(Offer {
            term: parts.term,
            seq: parts.seq,
            allocation: parts.allocation,
            appointment: (*parts.appointment).clone(),
            request: (*parts.request).clone(),
            grants: parts.grants,
            keys: parts.keys,
            upstream: upstream.collect::<Result<_, Rejection>>()?,
        })
    }

    pub(super) fn say(&mut self, ether: &mut Ether, enclave: EnclaveId, message: ToAgent) {
        // Without a channel it is offered again when the enclave arrives, or its lease moves.
        if let Some((connection, agent)) = self.links.get(&enclave).copied() {
            self.down(ether, agent, connection, Down::Say(Box::new(message)));
        }
    }

    pub(super) fn down(&self, ether: &mut Ether, agent: usize, connection: Connection, say: Down) {
        ether.send(self.node(), Node::Agent(agent), Message::Down { connection, say: Rc::new(say) });
    }

    pub(super) fn close(&mut self, ether: &mut Ether, agent: usize, connection: Connection, why: Rejection) {
        self.down(ether, agent, connection, Down::Close(why));
        ether.cut(connection, "closed by the manager");
    }

    pub(super) fn reply(&mut self, ether: &mut Ether, reply: Reply, result: Result<Seq, Rejection>) {
        match reply {
            Reply::Nobody => {}
            Reply::Open => match result {
                Ok(_) => self.open = self.reign.is_some(),
                // As the product does: tried again as long as it leads.
                Err(_) => self.seeds = true,
            },
            Reply::Caller { to, number } => {
                let answer = result.map_or_else(Answer::Refused, Answer::Done);
                ether.send(self.node(), to, Message::Answer { number, answer: Rc::new(answer) });
            }
            Reply::Applicant { agent, connection, passport } => {
                let say = match result {
                    Ok(_) => {
                        let appointment = Box::new(self.office.verifier_appointment.clone());
                        ToAgent::Admitted { passport, appointment }
                    }
                    Err(why) => ToAgent::Refused { why },
                };
                self.down(ether, agent, connection, Down::Say(Box::new(say)));
            }
            Reply::Present { agent, connection, enclave } => match result {
                Ok(_) => ether.tell(self.node(), || format!("enclave {} is present", enclave.short())),
                Err(why) => self.close(ether, agent, connection, why),
            },
            Reply::Refusal { agent, connection } => {
                if let Err(why) = result
                    && transient(&why)
                {
                    self.close(ether, agent, connection, why);
                }
            }
            Reply::Report { agent, connection, lease } => match result {
                Err(why)
                    if (transient(&why) || why.check == "manager.standby")
                        && !ether.is(Defect::AcknowledgesUnwritten) =>
                {
                    self.close(ether, agent, connection, why);
                }
                _ => self.down(ether, agent, connection, Down::Say(Box::new(ToAgent::Acknowledged { lease }))),
            },
            Reply::Lost { enclave } => {
                if result.is_err_and(|why| transient(&why)) && !self.links.contains_key(&enclave) {
                    if self.losses.is_empty() {
                        ether.ring(self.node(), self.life, LOSS_AGAIN, Timer::Losses);
                    }
                    self.losses.insert(enclave);
                } else if let Some((connection, agent)) = self.links.get(&enclave).copied() {
                    // It came back while this was on its way: let it arrive anew, so that books and channel agree.
                    let why = Rejection::new("channel.overtaken", "this channel");
                    self.close(ether, agent, connection, why);
                }
            }
        }
    }

    pub(super) fn lose(&mut self, ether: &mut Ether, enclave: EnclaveId, why: &str) {
        if self.open {
            let command = Command::Lost { enclave, why: why.to_owned() };
            self.decide(ether, command, Reply::Lost { enclave });
        }
    }
}
