//! What the swarm key costs one party: making it, handing it on, releasing under a label, and opening.
//!
//! Prints JSON on stdout: microseconds of this thread's time on a processor (where the system tells it; else of the clock), the
//! least of some rounds. With `--smoke`, one round of each, which says nothing but that it works. Whoever wants two other sizes
//! of committee gives them: `--from 5/9 --to 6/11`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{hint::black_box, time::Instant};

use legation_core::{Digest, EnclaveId, ObjectId, TenantId};
use legation_keys::{
    Entropy, ObjectKey, SealingKey,
    swarm::{
        Ceremony, Chair, Checked, Dealing, Generation, Label, Opener, Roster, SealedPartial, Share, ShareIndex,
        Subshare, SwarmSealed, Threshold,
    },
};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// Repeatable bytes: nothing here is a secret.
struct Counter(u64);

impl Entropy for Counter {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            chunk.copy_from_slice(&Digest::of(&self.0.to_be_bytes()).as_bytes()[..chunk.len()]);
        }
    }
}

/// Nanoseconds that this thread ran, or nothing where the system does not tell.
fn on_processor() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}

/// Figures, in the order in which they are taken.
struct Figures {
    rounds: u32,
    taken: Vec<(String, f64)>,
}

impl Figures {
    /// Notes the least time of the rounds, and gives what the last one made.
    fn take<T>(&mut self, name: &str, mut work: impl FnMut() -> Fallible<T>) -> Fallible<T> {
        let mut least = f64::INFINITY;
        let mut round = || {
            let (clock, ran) = (Instant::now(), on_processor());
            let made = black_box(work()?);
            let ran = ran.zip(on_processor()).map(|(before, after)| (after - before) as f64);
            let nanoseconds = ran.filter(|ran| *ran > 0.0).unwrap_or(clock.elapsed().as_nanos() as f64);
            least = least.min(nanoseconds / 1e3);
            Fallible::Ok(made)
        };
        let mut made = round()?;
        for _ in 1..self.rounds {
            made = round()?;
        }
        self.taken.push((name.to_owned(), least));
        Ok(made)
    }

    fn print(&self, from: Threshold, to: Threshold) {
        let figures: Vec<_> = self.taken.iter().map(|(name, figure)| format!("\"{name}\": {figure:.1}")).collect();
        println!(
            "{{\"bench\": \"swarm\", \"from\": \"{from}\", \"to\": \"{to}\", \"rounds\": {}, \"microseconds\": {{{}}}}}",
            self.rounds,
            figures.join(", "),
        );
    }
}

/// A committee in force.
struct Committee {
    roster: Roster,
    shares: Vec<Share>,
}

/// A ceremony with what only its members know.
struct Stage {
    ceremony: Ceremony,
    keys: Vec<SealingKey>,
}

impl Stage {
    fn new(threshold: Threshold, from: Option<Roster>, entropy: &mut Counter) -> Fallible<Self> {
        let mut both: Vec<(EnclaveId, SealingKey)> = (0..threshold.members())
            .map(|at| {
                let id = EnclaveId::new(Digest::of_parts(&[&entropy.0.to_be_bytes(), &at.to_be_bytes()]));
                (id, SealingKey::generate(entropy))
            })
            .collect();
        both.sort_by_key(|(enclave, _)| *enclave);
        let mut chairs = Vec::new();
        for (enclave, key) in &both {
            chairs.push(Chair::new(*enclave, key.public().clone())?);
        }
        let ceremony = Ceremony::new(Digest::of(b"call"), threshold, chairs, from)?;
        Ok(Self { ceremony, keys: both.into_iter().map(|(_, key)| key).collect() })
    }

    fn opened(&self, member: usize, dealings: &[Dealing]) -> Fallible<Vec<Subshare>> {
        let index = place(member)?;
        let mut parts = Vec::new();
        for dealing in dealings {
            parts.push(self.ceremony.open(dealing, index, &self.keys[member])?);
        }
        Ok(parts)
    }

    /// Everything that one member does after dealing, timed; the others' shares, untimed.
    fn conclude(&self, name: &str, dealings: &[Dealing], figures: &mut Figures) -> Fallible<Committee> {
        let bytes: Vec<Vec<u8>> = dealings.iter().map(Dealing::to_bytes).collect();
        let read = figures.take(&format!("{name}: read {} dealings", bytes.len()), || {
            bytes.iter().map(|bytes| Ok(Dealing::from_bytes(bytes)?)).collect::<Fallible<Vec<_>>>()
        })?;
        let parts = figures.take(&format!("{name}: open {} dealings", read.len()), || self.opened(0, &read))?;
        let checked: Vec<Checked> = parts.iter().map(|part| part.checked().clone()).collect();
        let roster = figures.take(&format!("{name}: roster"), || Ok(self.ceremony.roster(&checked)?))?;
        let first = figures.take(&format!("{name}: share"), || Ok(self.ceremony.share(&roster, &parts)?))?;
        let mut shares = vec![first];
        for member in 1..self.keys.len() {
            shares.push(self.ceremony.share(&roster, &self.opened(member, dealings)?)?);
        }
        Ok(Committee { roster, shares })
    }
}

fn place(at: usize) -> Fallible<ShareIndex> {
    Ok(ShareIndex::new(u16::try_from(at + 1)?).ok_or("no such place")?)
}

fn found(threshold: Threshold, entropy: &mut Counter, figures: &mut Figures) -> Fallible<Committee> {
    let stage = Stage::new(threshold, None, entropy)?;
    let name = format!("dkg {threshold}");
    let mut dealings = vec![figures.take(&format!("{name}: deal"), || Ok(stage.ceremony.deal(place(0)?, entropy)?))?];
    for dealer in 1..usize::from(threshold.members()) {
        dealings.push(stage.ceremony.deal(place(dealer)?, entropy)?);
    }
    stage.conclude(&name, &dealings, figures)
}

fn hand_on(old: &Committee, threshold: Threshold, entropy: &mut Counter, figures: &mut Figures) -> Fallible<Committee> {
    let stage = Stage::new(threshold, Some(old.roster.clone()), entropy)?;
    let name = format!("reshare {} to {threshold}", old.roster.threshold());
    let deal = format!("{name}: deal");
    let mut dealings = vec![figures.take(&deal, || Ok(stage.ceremony.redeal(&old.shares[0], entropy)?))?];
    for held in &old.shares[1..usize::from(old.roster.threshold().needed())] {
        dealings.push(stage.ceremony.redeal(held, entropy)?);
    }
    stage.conclude(&name, &dealings, figures)
}

fn release(committee: &Committee, entropy: &mut Counter, figures: &mut Figures) -> Fallible<()> {
    let (roster, ask) = (&committee.roster, Digest::of(b"ask"));
    let label = Label {
        tenant: TenantId::new("acme")?,
        policy: Digest::of(b"policy"),
        object: ObjectId::from_bytes([1; 16]),
        generation: Generation(0),
    };
    let (key, asker) = (roster.key(), SealingKey::generate(entropy));
    let sealed =
        figures.take("wrap a key", || Ok(SwarmSealed::seal(&key, &label, &ObjectKey::from_bytes([2; 32]), entropy)))?;
    let mut answers = Vec::new();
    for (at, share) in committee.shares.iter().enumerate() {
        let mut answer = || -> Fallible<SealedPartial> { Ok(share.release(&label, asker.public(), ask, entropy)?) };
        answers.push(if at == 0 { figures.take("release: one member", answer)? } else { answer()? });
    }
    figures.take("unseal a partial", || Ok(answers[0].open(&asker, ask)?))?;
    let one = answers[0].open(&asker, ask)?;
    figures.take("verify a partial", || Ok(roster.verify_partial(&label, &one)?))?;
    let mut opener = Opener::new(roster, &label);
    for answer in &answers {
        opener.add(answer.open(&asker, ask)?)?;
    }
    figures.take("recover and unwrap", || Ok(opener.open(&sealed)?))?;
    figures.take("ask, gather and unwrap: the asker's part", || {
        let mut opener = Opener::new(roster, &label);
        for answer in &answers[..usize::from(roster.threshold().needed())] {
            opener.add(answer.open(&asker, ask)?)?;
        }
        Ok(opener.open(&sealed)?)
    })?;
    Ok(())
}

/// A threshold as `5/9`.
fn threshold(text: &str) -> Fallible<Threshold> {
    let (needed, members) = text.split_once('/').ok_or("expected T/N")?;
    Ok(Threshold::new(needed.parse()?, members.parse()?)?)
}

fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut rounds, mut from, mut to) = (25, threshold("5/9")?, threshold("6/11")?);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => rounds = 1,
            "--from" => from = threshold(&arguments.next().ok_or("--from T/N")?)?,
            "--to" => to = threshold(&arguments.next().ok_or("--to T/N")?)?,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let mut figures = Figures { rounds, taken: Vec::new() };
    let mut entropy = Counter(0);
    let old = found(from, &mut entropy, &mut figures)?;
    release(&old, &mut entropy, &mut figures)?;
    let new = hand_on(&old, to, &mut entropy, &mut figures)?;
    if new.roster.key() != old.roster.key() {
        return Err("the key changed".into());
    }
    figures.print(from, to);
    Ok(())
}
