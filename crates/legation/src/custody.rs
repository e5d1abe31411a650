//! Who has a swarm key, as a client finds out for itself: from what the manager has, trusting nothing but the client's anchors.
//!
//! Checks of [`check`], in this order:
//! 1. `key.charter`: the charter in force, and the one that the committee was called by, are for this swarm key, keep their own rules, and
//!    are signed by operators of the anchors;
//! 2. `key.manager`: who called was appointed by one, where the appointment is there;
//! 3. the call follows its charter, and the words, each signed and said by who may say it, bring the committee into force again: what
//!    [`legation_core::custody::Board`] refuses, or `key.force`;
//! 4. `key.roster`: every dealing that counts is sound, and its dealer's own, and they make the roster and the key that all members have
//!    confirmed;
//! 5. `key.members`: fewer members than open are not known to be as the charter asks. Of the others each has a passport that holds now, by
//!    a verifier that an operator of the anchors appointed, is not revoked, is with the provider that it was called as, obeys no stranger,
//!    and has a chip of its own. That is the verifier's word: their evidence is not judged here.
//!
//! A committee after the first was handed the key by another, of which the dealers are looked at in the same way: honest ones deal nothing
//! but what they had. Where they are gone, and of the committees before them, nothing is seen here: what tells is that the key is the one
//! that was seen before ([`Pins`]).

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use legation_attest::passport;
use legation_core::{
    Digest, EnclaveId, ProviderId, PublicKey, Rejection, RevocationList, Signed, SwarmName, UnixTime,
    claims::Anchors,
    custody::{Board, Called, Charter, Committee, Dealing, Epoch, Generation, SwarmPublicKey, Threshold, check_chips},
    requirement::Candidate,
    statement::{Office, Passport},
};
use legation_keys::swarm::{self, Ceremony, Chair, Checked, Roster};
use legation_manager::api::keys::KeyBundle;
use legation_net::{custody::BoardNews, message::Peer};
use serde::{Deserialize, Serialize};

/// The file of a client's home that holds its pins.
pub const PINS_FILE: &str = "swarms.json";
/// Longest such file, in bytes.
const PINS_MAX: u64 = 1 << 20;

/// A member of a committee that was checked.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CheckedMember {
    /// Index of its share, from 1.
    pub index: u16,
    /// The enclave.
    pub enclave: EnclaveId,
    /// Its owner.
    pub provider: ProviderId,
    /// Why it is not known to be as the charter asks, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Rejection>,
}

/// A swarm key whose committee passed all checks.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CheckedKey {
    /// Its name.
    pub swarm: SwarmName,
    /// SHA-256 of the key: what names it.
    pub id: Digest,
    /// The key.
    pub key: SwarmPublicKey,
    /// Which key of several in a row.
    pub generation: Generation,
    /// How often it has changed hands.
    pub epoch: Epoch,
    /// Digest of the roster.
    pub roster: Digest,
    /// How many have a share, how many open.
    pub threshold: Threshold,
    /// Number of the charter in force.
    pub charter: u32,
    /// The members, by index.
    pub members: Vec<CheckedMember>,
    /// Of those who handed it over, how many are known to be as the charter asks; nothing where this committee made it.
    pub dealers: Option<u16>,
    /// What is not as it should be, and does not make it invalid.
    pub warnings: Vec<String>,
}

/// What a client goes by.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// What it trusts.
    pub anchors: &'a Anchors,
    /// What is revoked, where that is known.
    pub revocations: Option<&'a RevocationList>,
    /// The time.
    pub now: UnixTime,
}

fn refuse(check: &str, claim: impl Into<String>) -> Rejection {
    Rejection::new(check, claim)
}

/// Holds what a manager shows of a swarm key against what the reader trusts.
///
/// # Errors
/// The first check of this module that does not pass.
pub fn check(reader: &Reader<'_>, swarm: &SwarmName, bundle: &KeyBundle) -> Result<CheckedKey, Rejection> {
    reader.charter(swarm, &bundle.charter)?;
    let Some(news) = &bundle.board else {
        return Err(refuse("key.force", "committee that has the swarm key")
            .expected("one in force")
            .got("none")
            .fix("wait until it is made: `legation key status` says what is missing"));
    };
    reader.charter(swarm, &news.charter)?;
    if news.charter.number > bundle.charter.number {
        return Err(refuse("key.charter", "number of the charter in force")
            .expected(format!("{} or more: a committee was called by that", news.charter.number))
            .got(bundle.charter.number));
    }
    let mut warnings = Vec::new();
    if !reader.manager(news)? {
        warnings.push("who called the committee led this pool before, and its appointment is not there".to_owned());
    }
    let (board, committee) = in_force(news)?;
    let made = make_roster(&board)?;
    let key: &[u8; SwarmPublicKey::LEN] = &made.key().to_bytes();
    if made.digest() != committee.roster || key != committee.key.as_bytes() || made.epoch() != committee.epoch {
        return Err(refuse("key.roster", "roster that the dealings make")
            .expected(format!("{}, which all members confirmed", committee.roster))
            .got(made.digest())
            .fix("do not use this key: its members lie, or their words are not all here"));
    }
    let peers: BTreeMap<EnclaveId, &Peer> =
        bundle.peers.iter().map(|peer| (peer.passport.enclave_id(), peer)).collect();
    let judge = |called: &Called| reader.member(&news.charter, called, peers.get(&called.enclave).copied());
    let members = judge_all(&committee.members, judge)?;
    let doubted = members.iter().filter(|member| member.doubt.is_some()).count();
    if doubted >= usize::from(committee.threshold.needed()) {
        let why = members.iter().find_map(|member| member.doubt.as_ref()).map(ToString::to_string);
        return Err(refuse("key.members", "members that are not known to be as the charter asks")
            .expected(format!("fewer than {}, who could open alone", committee.threshold.needed()))
            .got(format!("{doubted}; the first: {}", why.unwrap_or_default()))
            .fix("wait until they are back, or have the key handed on: `legation key rotate`"));
    }
    if doubted > 0 {
        warnings.push(format!("{doubted} of {} members are not known to be as the charter asks", members.len()));
    }
    let proven = members.iter().filter(|member| member.doubt.is_none());
    let mut proven = proven.filter_map(|member| peers.get(&member.enclave));
    if proven.any(|peer| peer.passport.claims.tee.value.is_development()) {
        warnings.push("members are development enclaves: they prove the protocol, not confidentiality".to_owned());
    }
    let dealers = board.before().map(|before| dealers(&board, before, judge)).transpose()?;
    if let Some(proven) = dealers.filter(|proven| *proven < board.needed()) {
        let all = board.needed();
        warnings.push(format!("{proven} of {all} who handed it over are known to be as the charter asks"));
    }
    Ok(CheckedKey {
        swarm: swarm.clone(),
        id: committee.key.id(),
        key: committee.key,
        generation: committee.generation,
        epoch: committee.epoch,
        roster: committee.roster,
        threshold: committee.threshold,
        charter: bundle.charter.number,
        members,
        dealers,
        warnings,
    })
}

impl Reader<'_> {
    /// Check 1.
    fn charter(&self, swarm: &SwarmName, charter: &Signed<Charter>) -> Result<(), Rejection> {
        if charter.swarm != *swarm {
            return Err(refuse("key.charter", "swarm key of the charter").expected(swarm).got(&charter.swarm));
        }
        charter.validate()?;
        if self.anchors.operators.contains(&charter.operator) {
            return Ok(());
        }
        Err(refuse("key.charter", "root that signed the charter")
            .expected("an operator of the anchors")
            .got(charter.operator.id())
            .fix("do not use this key: its rules are somebody else's"))
    }

    /// Check 2; says whether the appointment is there.
    fn manager(&self, news: &BoardNews) -> Result<bool, Rejection> {
        let (call, Some(appointment)) = (&news.call, &news.appointment) else { return Ok(false) };
        let good = self.anchors.operators.contains(&appointment.operator)
            && appointment.office == Office::Manager
            && appointment.key == call.manager
            && call.prev.get(1) == Some(&appointment.digest())
            && (appointment.not_before..=appointment.not_after).contains(&call.called);
        if good {
            return Ok(true);
        }
        Err(refuse("key.manager", "who called the committee")
            .expected(format!("{}, appointed as a manager by an operator of the anchors", call.manager.id()))
            .got(format!("{:?} {} by {}", appointment.office, appointment.key.id(), appointment.operator.id())))
    }

    /// Check 5, of one member.
    fn member<'a>(
        &self,
        charter: &Charter,
        called: &Called,
        peer: Option<&'a Peer>,
    ) -> Result<&'a Signed<Passport>, Rejection> {
        let Some(Peer { passport, appointment }) = peer else {
            return Err(refuse("key.passport", "passport of a member")
                .expected(format!("one of {}", called.enclave.short()))
                .got("none: the pool no longer knows it"));
        };
        passport::check(passport, appointment, &self.anchors.operators, self.now)?;
        if appointment.scope.as_ref().is_some_and(|scope| scope.tenants.is_some()) {
            return Err(refuse("key.passport", "verifier behind the passport of a member")
                .expected("one that its operator trusts with everybody's work")
                .got("one of some tenants alone"));
        }
        let mut revoked = self.revocations.iter().flat_map(|list| &list.revocations);
        if let Some(revocation) = revoked.find(|revocation| revocation.what.covers(passport)) {
            return Err(revocation.refusal());
        }
        let configuration = &passport.configuration;
        let stranger = |key: &&PublicKey| !self.anchors.operators.contains(key);
        if let Some(stranger) = configuration.operators.iter().find(stranger) {
            return Err(refuse("key.operators", "whom a member obeys")
                .expected("operators of the anchors alone")
                .got(stranger.id()));
        }
        if configuration.custody.as_ref().is_none_or(|custody| custody.swarm != charter.swarm) {
            return Err(refuse("key.custody", "what a member is set up for")
                .expected(format!("custodian of `{}`", charter.swarm))
                .got("something else"));
        }
        if configuration.provider != called.provider {
            return Err(refuse("key.provider", "provider of a member")
                .expected(&called.provider)
                .got(&configuration.provider));
        }
        charter.check_enclave(&Candidate { passport, price_hour: configuration.price_hour() }, self.now)?;
        Ok(passport)
    }
}

/// Check 3: the board again, and the committee that it brings into force.
fn in_force(news: &BoardNews) -> Result<(Board, Committee), Rejection> {
    if news.from != 0 {
        return Err(refuse("key.force", "words of the ceremony")
            .expected("all")
            .got(format!("from word {}", news.from)));
    }
    let mut board = Board::open(news.call.clone(), &news.charter, news.before.as_ref())?;
    for heard in &news.words {
        board.absorb(&heard.word, heard.at)?;
    }
    let committee = board.committee().ok_or_else(|| {
        refuse("key.force", "words of the ceremony")
            .expected("all that bring its committee into force")
            .got(format!("{} that do not", news.words.len()))
    })?;
    Ok((board, committee))
}

fn unsound(claim: &str, why: impl std::fmt::Display) -> Rejection {
    refuse("key.roster", claim).expected("one that is sound").got(why)
}

/// Check 4: what the dealings that count make.
fn make_roster(board: &Board) -> Result<Roster, Rejection> {
    let settled = board.settled().unwrap_or_default();
    let counts = |dealing: &&Signed<Dealing>| settled.contains(&dealing.name());
    let dealings: Vec<&Signed<Dealing>> = board.dealings().filter(counts).collect();
    let chairs = board.chairs().map(|chair| Chair::new(chair.enclave.enclave_id(), chair.sealing.clone()));
    let chairs = chairs.collect::<Result<Vec<_>, _>>().map_err(|e| unsound("chair of a member", e))?;
    let from = board.before().map(|before| handed_on(before, dealings.first().copied())).transpose()?;
    let call = board.call();
    let ceremony =
        Ceremony::new(call.digest(), call.threshold, chairs, from).map_err(|e| unsound("chairs of the members", e))?;
    if Some(ceremony.digest()) != board.ceremony() {
        return Err(unsound("ceremony", "another than the board's"));
    }
    let checked: Vec<Checked> =
        dealings.iter().map(|dealing| sound(&ceremony, board, dealing)).collect::<Result<_, _>>()?;
    ceremony.roster(&checked).map_err(|e| unsound("dealings together", e))
}

/// A dealing as everybody can check it: sound, and of whoever signed it.
fn sound(ceremony: &Ceremony, board: &Board, dealing: &Signed<Dealing>) -> Result<Checked, Rejection> {
    let dealer = dealing.dealer.enclave_id();
    let claim = format!("dealing of {}", dealer.short());
    let read = swarm::Dealing::from_bytes(&dealing.dealing).map_err(|e| unsound(&claim, e))?;
    if Some(read.dealer().get()) != board.dealer_index(dealer) {
        return Err(unsound(&claim, format!("that of dealer {}", read.dealer())));
    }
    ceremony.check(&read).map_err(|e| unsound(&claim, e))
}

/// The roster before, which every dealing brings along. The board has held its digest against the call.
fn handed_on(before: &Committee, dealing: Option<&Signed<Dealing>>) -> Result<Roster, Rejection> {
    let claim = "roster of the committee before";
    let bytes = dealing.and_then(|dealing| dealing.roster.as_deref()).unwrap_or_default();
    let roster = Roster::from_bytes(bytes).map_err(|e| unsound(claim, e))?;
    let members = before.members.iter().map(|member| member.enclave);
    let same = roster.digest() == before.roster
        && roster.epoch() == before.epoch
        && roster.threshold() == before.threshold
        && roster.members().iter().copied().eq(members)
        && roster.key().to_bytes() == *before.key.as_bytes();
    if same { Ok(roster) } else { Err(unsound(claim, "another than the manager says")) }
}

/// Check 5 of all members, by index.
fn judge_all<'a>(
    called: &[Called],
    judge: impl Fn(&Called) -> Result<&'a Signed<Passport>, Rejection>,
) -> Result<Vec<CheckedMember>, Rejection> {
    let judged: Vec<_> = called.iter().map(judge).collect();
    check_chips(judged.iter().flatten().map(|passport| passport.predicate()))?;
    let member = |(index, (called, judged)): (u16, (&Called, Result<_, Rejection>))| CheckedMember {
        index,
        enclave: called.enclave,
        provider: called.provider.clone(),
        doubt: judged.err(),
    };
    Ok((1..).zip(called.iter().zip(judged)).map(member).collect())
}

/// How many of those whose dealings count are as the charter asks.
fn dealers<'a>(
    board: &Board,
    before: &Committee,
    judge: impl Fn(&Called) -> Result<&'a Signed<Passport>, Rejection>,
) -> Result<u16, Rejection> {
    let counts = |called: &&Called| board.settled().unwrap_or_default().iter().any(|d| d.dealer == called.enclave);
    let judged: Vec<_> = before.members.iter().filter(counts).filter_map(|called| judge(called).ok()).collect();
    check_chips(judged.iter().map(|passport| passport.predicate()))?;
    Ok(u16::try_from(judged.len()).unwrap_or(u16::MAX))
}

/// A swarm key as a client saw it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// SHA-256 of the key.
    pub key: Digest,
    /// Which key of several in a row.
    pub generation: Generation,
    /// The latest epoch that was seen.
    pub epoch: Epoch,
    /// The latest charter that was seen.
    pub charter: u32,
    /// When it was first seen.
    pub since: UnixTime,
}

/// The swarm keys that a client saw: another key of that name, or an older committee, is refused.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
    pins: BTreeMap<SwarmName, Pin>,
}

/// What a pin says of a key that was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinned {
    /// It was never seen before.
    New,
    /// It is the one that was seen before.
    Same,
    /// It takes the place of another, as the client wants.
    Replaced,
}

impl Pins {
    /// Reads the pins in a client's home; there are none where there is no such file.
    ///
    /// # Errors
    /// `key.pins`: the file cannot be read, or holds something else. Its keys are then not taken for unknown.
    pub fn open(home: &Path) -> Result<Self, Rejection> {
        let path = home.join(PINS_FILE);
        let wrong = |e: &dyn std::fmt::Display| {
            refuse("key.pins", path.display().to_string())
                .expected("the swarm keys that this client saw")
                .got(e)
                .fix("put the file back as it was; without it, the next key of each name is taken for the right one")
        };
        let pins = match fs::metadata(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(wrong(&e)),
            Ok(file) if file.len() > PINS_MAX => return Err(wrong(&format!("{} bytes", file.len()))),
            Ok(_) => {
                let text = fs::read(&path).map_err(|e| wrong(&e))?;
                serde_json::from_slice(&text).map_err(|e| wrong(&e))?
            }
        };
        Ok(Self { path, pins })
    }

    /// What is pinned of a swarm key.
    pub fn get(&self, swarm: &SwarmName) -> Option<&Pin> {
        self.pins.get(swarm)
    }

    /// Holds a key against the pin of its name, and pins it; with `replace`, also in the place of another.
    ///
    /// # Errors
    /// `key.pinned`: another key; `key.stale`: an older committee or charter of it; `key.pins`: the file cannot be written.
    pub fn pin(&mut self, key: &CheckedKey, replace: bool, now: UnixTime) -> Result<Pinned, Rejection> {
        let before = self.pins.get(&key.swarm);
        let pinned = match before {
            None => Pinned::New,
            Some(pin) if pin.key == key.id => {
                stale("epoch of the committee", pin.epoch.0, key.epoch.0)?;
                stale("number of the charter", u64::from(pin.charter), u64::from(key.charter))?;
                Pinned::Same
            }
            Some(_) if replace => Pinned::Replaced,
            Some(pin) => {
                return Err(refuse("key.pinned", format!("swarm key `{}`", key.swarm))
                    .expected(format!("{}, seen here since {}", pin.key, pin.since))
                    .got(key.id)
                    .fix("ask the operator why there is another key; if it says so by another way, --replace-pin takes it"));
            }
        };
        let since = before.filter(|_| pinned == Pinned::Same).map_or(now, |pin| pin.since);
        let pin = Pin { key: key.id, generation: key.generation, epoch: key.epoch, charter: key.charter, since };
        if before != Some(&pin) {
            self.pins.insert(key.swarm.clone(), pin);
            self.write().map_err(|e| {
                refuse("key.pins", self.path.display().to_string()).expected("a file that can be written").got(e)
            })?;
        }
        Ok(pinned)
    }

    /// What was in the file is there until the new one is whole.
    fn write(&self) -> std::io::Result<()> {
        let aside = self.path.with_extension(format!("{}.new", std::process::id()));
        let text = serde_json::to_string_pretty(&self.pins)?;
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    }
}

fn stale(claim: &str, seen: u64, got: u64) -> Result<(), Rejection> {
    if got >= seen {
        return Ok(());
    }
    Err(refuse("key.stale", claim)
        .expected(format!("{seen} or more: that was seen here"))
        .got(got)
        .fix("the manager shows what is over: ask another, or the operator"))
}
