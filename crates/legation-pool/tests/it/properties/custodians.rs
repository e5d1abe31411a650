//! Custodians of generated histories: each says the first word that is due on the boards. The mathematics is that of `custody.rs`: a dealing is
//! a name, a roster what was dealt, a share the memory of a roster.

use std::collections::BTreeMap;

use legation_core::{
    Digest, EnclaveId, Predicate, Requirement, Signed, Signer, SwarmName,
    custody::{Acceptance, Board, Chair, Charter, CustodyWord, Dealing, SwarmPublicKey, Threshold, Vows, WordKind},
    dsse::sign,
};

use crate::world::*;

pub(super) fn main_key() -> SwarmName {
    SwarmName::new("main").unwrap()
}

fn word<P: Predicate>(said: P, key: &Key) -> CustodyWord {
    CustodyWord::open(sign(said, key).envelope()).unwrap()
}

/// What the settled dealings make.
fn roster(board: &Board) -> Option<Vec<u8>> {
    let mut about = board.ceremony()?.as_bytes().to_vec();
    for name in board.settled()? {
        about.extend_from_slice(name.dealing.as_bytes());
    }
    Some(about)
}

/// The charter that may follow; one with a flaw is not signed by the operator, or rests on nothing.
pub(super) fn charter(world: &World, flaw: u8) -> Signed<Charter> {
    let before = world.pool.custody_boards(&main_key()).ok().map(|boards| boards.charter.clone());
    let signer = if flaw == 0 { &world.client } else { &world.operator };
    let charter = Charter {
        operator: signer.public_key(),
        swarm: main_key(),
        number: before.as_ref().map_or(1, |before| before.number + 1),
        threshold: Threshold::new(2, 3).unwrap(),
        require: Requirement::any(),
        per_provider_max: 1,
        epoch_seconds: 600,
        not_after: START.plus(30 * 24 * HOUR),
        prev: before.filter(|_| flaw != 1).map(|before| before.digest()).into_iter().collect(),
    };
    sign(charter, signer)
}

/// What custodians keep.
#[derive(Default)]
pub(super) struct Custodians {
    vows: BTreeMap<EnclaveId, Vows>,
    /// Rosters that they have shares of.
    held: BTreeMap<(EnclaveId, Digest), Vec<u8>>,
}

impl Custodians {
    /// What a machine is to say first, if anything.
    pub(super) fn due(&mut self, world: &World, machine: &Machine) -> Option<CustodyWord> {
        let boards = world.pool.custody_boards(&main_key()).ok()?;
        boards.past.into_iter().chain(boards.open).find_map(|board| self.due_on(world, machine, board))
    }

    fn due_on(&mut self, world: &World, machine: &Machine, board: &Board) -> Option<CustodyWord> {
        let (key, id) = (&machine.key, machine.id);
        let (me, call) = (key.public_key(), board.call().digest());
        let (is_member, is_dealer) = (board.member_index(id).is_some(), board.dealer_index(id).is_some());
        let silent = |kind: WordKind| !board.words().iter().any(|s| s.word.kind() == kind && s.word.speaker() == me);
        if is_member && silent(WordKind::Chair) {
            let passport = world.pool.enclaves().get(&id)?.proof().passport;
            let sealing = sealing(&format!("{id} in {call}"));
            return Some(word(Chair { call, enclave: me, passport, sealing, prev: vec![call, passport] }, key));
        }
        let ceremony = board.ceremony()?;
        if board.settled().is_none() {
            let roster = board.before().and_then(|before| self.held.get(&(id, before.roster)).cloned());
            if is_dealer && silent(WordKind::Dealing) && board.before().is_some() == roster.is_some() {
                let prev = [call].into_iter().chain(board.chairs().map(Signed::digest)).collect();
                let dealing = [&ceremony.as_bytes()[..], id.digest().as_bytes()].concat();
                return Some(word(Dealing { ceremony, dealer: me, dealing, roster, prev }, key));
            }
            let open = board.dealings().filter(|d| is_member && !board.has_judged(id, &d.name()));
            let mut named: Vec<_> = open.map(|d| (d.name(), d.digest())).collect();
            named.sort_unstable();
            if named.is_empty() {
                return None;
            }
            let (dealings, prev) = named.into_iter().unzip();
            return Some(word(Acceptance { ceremony, member: me, dealings, prev }, key));
        }
        let vows = self.vows.entry(id).or_default();
        if is_member && silent(WordKind::Confirmation) {
            let roster = roster(board)?;
            let digest = Digest::of(&roster);
            let toy_key = SwarmPublicKey::from_bytes([7; SwarmPublicKey::LEN]);
            let said = vows.confirm(board, me, (digest, toy_key), world.now).ok()?;
            self.held.insert((id, digest), roster);
            return Some(word(said, key));
        }
        if !silent(WordKind::Handover) {
            return None;
        }
        let said = vows.hand_over(board, me).ok()?;
        self.held.remove(&(id, said.from));
        Some(word(said, key))
    }
}
