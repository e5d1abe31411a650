//! What others are told of the ceremonies of a swarm key: the boards as the pool has them, word by word in the order of the journal, and
//! the passports of those whom they name.
//!
//! Nobody has to believe more than the order: every word is signed, and whoever reads makes the boards again by the rules of
//! [`legation_core::custody`]. Words of a large committee are more than one message may have: they come in pages, and whoever asks says
//! how many it knows of which board.

use legation_core::{
    EnclaveId, Envelope, Rejection, Signed, SwarmName,
    custody::{Board, Charter},
};
use legation_net::{
    custody::{BoardNews, CustodyNews, Heard, PAGE_MAX, Seen},
    message::Peer,
};
use legation_pool::{Brief, Grounds, Pool};
use tracing::error;

/// Bytes of words and passports in one message, about, where one of each is more than a page: calls, charters and the committees before
/// come on top, and are less than what is left of [`legation_net::frame::CONTROL_MAX`].
const NEWS_MAX: usize = 900 << 10;
/// What an envelope has beside its payload: names, key and signature.
const ENVELOPE: usize = 320;

/// What is new of a swarm key, with proofs in brief: the whole of them is in the journal.
pub(crate) struct Page {
    pub(crate) charter: Signed<Charter>,
    pub(crate) past: Option<BoardNews>,
    pub(crate) open: Option<BoardNews>,
    /// Of those that are to be shown.
    pub(crate) proofs: Vec<Brief>,
    /// Whether there is more.
    more: bool,
}

/// A page as it is filled.
struct Filling<'a> {
    known: &'a [Seen],
    /// Bytes of words that still fit.
    room: usize,
    /// Words in it.
    words: usize,
    more: bool,
    /// Who is to be shown: those who are called first.
    named: Vec<EnclaveId>,
}

/// Bytes of an envelope in a message, about.
fn weight(envelope: &Envelope) -> usize {
    envelope.payload().len().div_ceil(3) * 4 + ENVELOPE
}

impl<'a> Filling<'a> {
    fn new(known: &'a [Seen], room: usize) -> Self {
        Self { known, room, words: 0, more: false, named: Vec::new() }
    }

    /// What there is of a board beyond what is known of it.
    fn board(&mut self, board: &Board, grounds: Grounds<'_>) -> BoardNews {
        let (call, all) = (board.call(), board.words());
        let seen = self.known.iter().find(|seen| seen.call == call.digest());
        let from = seen.map_or(0, |seen| usize::try_from(seen.words).unwrap_or(usize::MAX)).min(all.len());
        let mut words = Vec::new();
        for said in all.iter().skip(from) {
            let weight = weight(said.word.envelope());
            if self.words > 0 && weight > self.room {
                self.more = true;
                break;
            }
            self.room = self.room.saturating_sub(weight);
            self.words += 1;
            words.push(Heard { word: said.word.clone(), at: said.at });
        }
        BoardNews {
            call: call.clone(),
            appointment: grounds.appointment.cloned(),
            charter: grounds.charter.clone(),
            before: board.before().cloned(),
            from: u32::try_from(from).unwrap_or(u32::MAX),
            words,
        }
    }

    /// Where a board begins, whoever is called or hands over is shown: all on one page, as whoever reads judges them together.
    fn show(&mut self, news: &BoardNews) {
        let before = news.before.iter().flat_map(|before| &before.members);
        for member in news.call.members.iter().chain(before).filter(|_| news.from == 0) {
            if !self.named.contains(&member.enclave) {
                self.named.push(member.enclave);
            }
        }
    }

    fn page(self, pool: &Pool, charter: &Signed<Charter>, (past, open): Parts) -> Page {
        let proofs = self.named.iter().filter_map(|enclave| proof(pool, *enclave)).collect();
        Page { charter: charter.clone(), past, open, proofs, more: self.more }
    }
}

/// Of the ceremony by which the committee came into force, and of the one that is under way.
type Parts = (Option<BoardNews>, Option<BoardNews>);

/// What there is of a swarm key beyond what is `known`, as much as one message may have.
///
/// # Errors
/// `custody.unknown`: there is no charter for it.
pub(crate) fn page(pool: &Pool, swarm: &SwarmName, known: &[Seen]) -> Result<Page, Rejection> {
    let boards = pool.custody_boards(swarm)?;
    let mut filling = Filling::new(known, PAGE_MAX);
    let past = boards.past.zip(boards.past_grounds).map(|(board, grounds)| filling.board(board, grounds));
    let open = boards.open.zip(boards.open_grounds).map(|(board, grounds)| filling.board(board, grounds));
    open.iter().for_each(|open| filling.show(open));
    Ok(filling.page(pool, boards.charter, (past, open)))
}

/// What shows who has a swarm key: all that was said in the ceremony by which its committee came into force.
///
/// # Errors
/// As [`page`].
pub(crate) fn in_force(pool: &Pool, swarm: &SwarmName) -> Result<Page, Rejection> {
    let boards = pool.custody_boards(swarm)?;
    let mut filling = Filling::new(&[], usize::MAX);
    let past = boards.past.zip(boards.past_grounds).map(|(board, grounds)| filling.board(board, grounds));
    past.iter().for_each(|past| filling.show(past));
    Ok(filling.page(pool, boards.charter, (past, None)))
}

/// The freshest proof of an enclave by a verifier that is not of some tenants alone; else its newest. Nothing is known of one that is gone.
fn proof(pool: &Pool, enclave: EnclaveId) -> Option<Brief> {
    let known = pool.enclaves().get(&enclave)?;
    let of_all = |proof: &&Brief| proof.appointment().scope.as_ref().is_none_or(|scope| scope.tenants.is_none());
    Some(known.proofs().find(of_all).unwrap_or_else(|| known.proof()).clone())
}

/// What a custodian is told, cut to one message: words go first, to the last but one, and are asked for again.
pub(crate) fn news(swarm: SwarmName, page: Page, peers: Vec<Peer>) -> CustodyNews {
    let Page { charter, past, open, more, .. } = page;
    let mut news = CustodyNews { swarm, charter, past, open, peers, more };
    let of_peer = |peer: &Peer| weight(peer.passport.envelope()) + weight(peer.appointment.envelope());
    let mut words = 0;
    let mut total: usize = news.peers.iter().map(of_peer).sum();
    for heard in news.past.iter().chain(&news.open).flat_map(|board| &board.words) {
        words += 1;
        total += weight(heard.word.envelope());
    }
    while total > NEWS_MAX && words > 1 {
        let boards = [&mut news.open, &mut news.past];
        let Some(last) = boards.into_iter().flatten().find_map(|board| board.words.pop()) else { break };
        total = total.saturating_sub(weight(last.word.envelope()));
        (words, news.more) = (words - 1, true);
    }
    // Last are those of the committee before.
    while total > NEWS_MAX
        && let Some(last) = news.peers.pop()
    {
        error!(enclave = %last.passport.enclave_id().short(), "the passport of a custodian does not fit into a message");
        total = total.saturating_sub(of_peer(&last));
    }
    news
}
