//! The gate: what agents and clients say, and the commands that it makes.

use legation_core::{
    EnclaveId, LeaseId, Rejection, RevocationEpoch, Seq, Signed, Term,
    claims::{Capacity, Evidence},
    custody::{Board, Charter},
};
use legation_net::message::{ToAgent, ToManager};
use legation_pool::{Attached, Command, Grounds};

use super::{Manager, Office, Outcome, Reply, standing_by};
use crate::{
    defect::Defect,
    ether::Ether,
    keys::Key,
    message::{BoardNews, Call, Connection, CustodyNews, Down, Message, Node, Seen, Up},
    statements::{self, Machine},
    store::Store,
};

/// What is new of a board to who has seen so much: the rest of it if that is this board, else all.
fn board_news(board: &Board, charter: &Signed<Charter>, seen: [Option<Seen>; 2]) -> BoardNews {
    let (call, words) = (board.call(), board.words());
    let known = seen.into_iter().flatten().find(|seen| seen.call == call.digest());
    let from = known.map_or(0, |seen| seen.words.min(words.len()));
    BoardNews {
        call: call.clone(),
        charter: charter.clone(),
        before: board.before().cloned(),
        from,
        words: words.iter().skip(from).cloned().collect(),
    }
}

impl Manager {
    pub(crate) fn hears(&mut self, ether: &mut Ether, store: &mut Store, from: Node, message: Message) {
        match (from, message) {
            (_, Message::Call { number, call }) => self.called(ether, from, number, &call),
            (Node::Agent(agent), Message::Up { connection, say }) => self.heard(ether, agent, connection, &say),
            (_, Message::Ended { connection, why }) => {
                let ended = self.links.iter().find(|(_, (link, _))| *link == connection).map(|(enclave, _)| *enclave);
                if let Some(enclave) = ended {
                    self.links.remove(&enclave);
                    self.lose(ether, enclave, why);
                }
            }
            _ => {}
        }
        self.keep(ether, store);
    }

    fn called(&mut self, ether: &mut Ether, from: Node, number: u64, call: &Call) {
        let command = match call {
            Call::View { task } => return self.view(ether, from, number, *task),
            Call::Submit { request, grants, idempotency } => Command::Submit {
                request: Box::new(request.clone()),
                grants: grants.clone(),
                idempotency: Some(idempotency.clone()),
            },
            Call::Grant { grant, keys } => Command::Grant { grant: Box::new(grant.clone()), keys: keys.clone() },
            Call::Cancel { task } => Command::Cancel { task: *task },
            Call::Revoke { what, why } => Command::Revoke { what: what.clone(), why: why.clone() },
            Call::Drain { enclave } => Command::Drain { enclave: *enclave },
            Call::Operate(command) => (**command).clone(),
            Call::Withdraw { enclave, verifier } => Command::Withdraw {
                enclave: *enclave,
                verifier: *verifier,
                why: Rejection::new("appraisal.tcb", "security version"),
            },
        };
        self.decide(ether, command, Reply::Caller { to: from, number });
    }

    fn heard(&mut self, ether: &mut Ether, agent: usize, connection: Connection, say: &Up) {
        if !ether.is_open(connection) {
            return;
        }
        if !self.open {
            return self.close(ether, agent, connection, standing_by());
        }
        match say {
            Up::Attest { evidence, boot, machine } => {
                self.attest(ether, agent, connection, evidence, boot, machine);
            }
            Up::Present { enclave, running, obeyed } => {
                self.present(ether, agent, connection, *enclave, (running.clone(), *obeyed));
            }
            Up::AskCustody { open, past } => self.custody_asked(agent, connection, [*open, *past]),
            Up::Custody(word) => {
                if let Some(enclave) = self.proven(connection) {
                    // It is answered by the board.
                    self.decide(ether, Command::SayCustody { enclave, word: word.clone() }, Reply::Nobody);
                }
            }
            Up::Say(message) => self.said(ether, agent, connection, message),
        }
    }

    /// This manager's own verifier judges evidence. What it would find is in the message; whether it is true is the lie of an agent.
    fn attest(
        &mut self,
        ether: &mut Ether,
        agent: usize,
        connection: Connection,
        evidence: &Evidence,
        boot: &Key,
        machine: &Machine,
    ) {
        if ether.verifiers_down {
            let why = Rejection::new("verifier.silent", "a verifier").expected("an answer").got("none");
            return self.down(ether, agent, connection, Down::Say(Box::new(ToAgent::Refused { why })));
        }
        let issued = self.clock.unix(ether.now);
        let expires = issued.plus(ether.plan.passport_life);
        let mut machine = machine.clone();
        let mut evidence = evidence.clone();
        if ether.is(Defect::OvercountsCapacity) {
            let Capacity { cpu, memory, slots } = machine.configuration.capacity;
            let double =
                Capacity { cpu: cpu.saturating_add(cpu), memory: memory.saturating_add(memory), slots: slots * 2 };
            machine.configuration.capacity = double;
            evidence = machine.evidence(boot);
        }
        let Office { verifier, verifier_appointment, .. } = &self.office;
        let passport = machine.passport(boot, (issued, expires), verifier, verifier_appointment);
        let command = Command::Attested {
            passport: Box::new(passport.clone()),
            appointment: Box::new(verifier_appointment.clone()),
            evidence: Box::new(evidence),
            collateral: Vec::new(),
        };
        self.decide(ether, command, Reply::Applicant { agent, connection, passport: Box::new(passport) });
    }

    /// The enclave that a connection proves.
    fn proven(&self, connection: Connection) -> Option<EnclaveId> {
        self.links.iter().find(|(_, (link, _))| *link == connection).map(|(enclave, _)| *enclave)
    }

    /// As with every answer, what it rests on must be durable before it is given: whoever hears of confirmations may erase its share.
    fn custody_asked(&mut self, agent: usize, connection: Connection, seen: [Option<Seen>; 2]) {
        let (proven, stalled) = (self.proven(connection).is_some(), self.stalled);
        let Some(reign) = self.reign.as_ref().filter(|_| proven && !stalled) else { return };
        let Ok(boards) = reign.pool.custody_boards(&statements::swarm_key()) else { return };
        let news = |(board, grounds): (&Board, Grounds<'_>)| board_news(board, grounds.charter, seen);
        let news = CustodyNews {
            open: boards.open.zip(boards.open_grounds).map(news),
            past: boards.past.zip(boards.past_grounds).map(news),
        };
        self.batch.outcomes.push(Outcome::CustodyNews { agent, connection, news: Box::new(news) });
    }

    fn said(&mut self, ether: &mut Ether, agent: usize, connection: Connection, message: &ToManager) {
        let Some(enclave) = self.proven(connection) else {
            let why = Rejection::new("channel.applicant", "standing of the agent");
            return self.close(ether, agent, connection, why);
        };
        match message {
            ToManager::Refuse { lease, why } => {
                let command = Command::Refuse { enclave, lease: *lease, why: why.clone() };
                self.decide(ether, command, Reply::Refusal { agent, connection });
            }
            ToManager::Join(membership) => {
                let command = Command::Join { enclave, membership: membership.clone() };
                self.decide(ether, command, Reply::Refusal { agent, connection });
            }
            // What the agent called its asking is its own affair: here nobody waits for a refusal by that name.
            ToManager::Borrow { ask, of, terms } => {
                let command = Command::Borrow { enclave, ask: *ask, of: *of, terms: terms.clone() };
                self.decide(ether, command, Reply::Refusal { agent, connection });
            }
            ToManager::GiveBack { loan, why } => {
                let command = Command::GiveBack { enclave, loan: *loan, why: why.clone() };
                self.decide(ether, command, Reply::Refusal { agent, connection });
            }
            ToManager::Report(reported) => {
                let lease = reported.report.lease;
                let attached = Attached::open(reported.attached.clone());
                let command = match attached {
                    Ok(attached) => Command::Report {
                        enclave,
                        report: Box::new(reported.report.clone()),
                        aggregate: reported.aggregate.clone().map(Box::new),
                        keys: reported.keys.clone(),
                        attached: Box::new(attached),
                    },
                    Err(why) => Command::Refuse { enclave, lease, why },
                };
                self.decide(ether, command, Reply::Report { agent, connection, lease });
            }
            _ => {}
        }
    }

    fn present(
        &mut self,
        ether: &mut Ether,
        agent: usize,
        connection: Connection,
        enclave: EnclaveId,
        (running, obeyed): (Vec<LeaseId>, (Term, Seq)),
    ) {
        if let Err(why) = self.check_tail(obeyed) {
            ether.tally.reach(&format!("manager: does not let in by {}", why.check));
            return self.close(ether, agent, connection, why);
        }
        let before = self.links.insert(enclave, (connection, agent));
        if let Some((old, agent)) = before.filter(|(old, _)| *old != connection) {
            let why = Rejection::new("channel.replaced", "this channel").got("a newer channel of the same enclave");
            self.close(ether, agent, old, why);
        }
        if self.revoked.epoch() > RevocationEpoch(0) {
            self.down(ether, agent, connection, Down::Revocations(self.revoked.clone()));
        }
        self.decide(ether, Command::Arrived { enclave, running }, Reply::Present { agent, connection, enclave });
    }

    /// An agent that obeyed what this journal does not hold has seen records that were lost.
    fn check_tail(&self, obeyed: (Term, Seq)) -> Result<(), Rejection> {
        let (term, began) = self.began.ok_or_else(standing_by)?;
        let end = self.leadership.seq();
        let known = match obeyed.0.cmp(&term) {
            std::cmp::Ordering::Less => obeyed.1 < began,
            std::cmp::Ordering::Equal => obeyed.1 <= end,
            std::cmp::Ordering::Greater => false,
        };
        if known {
            return Ok(());
        }
        Err(Rejection::new("manager.lost-tail", "end of the journal")
            .expected(format!("at least term {} position {}", obeyed.0.0, obeyed.1.0))
            .got(format!("term {}, now at {}", term.0, end.0)))
    }
}
