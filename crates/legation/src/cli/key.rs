//! `legation key`: who has the swarm keys, and what to see to before it is too late.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Subcommand;
use legation::{
    client::{Client, ClientError},
    custody::{CheckedKey, Pinned, Pins, Reader, check},
    home::Home,
    root::Root,
    verify::read_revocations,
};
use legation_core::{
    Digest, Rejection, Requirement, RevocationList, Signed, SwarmName, UnixTime,
    claims::Anchors,
    custody::{Charter, Threshold},
};
use legation_manager::api::keys::KeyBundle;
use legation_pool::{CallStage, CallView, CommitteeView, CustodyView, MemberState};
use serde::Serialize;

use super::{Context, Exit, Failure, Output, interrupts::Interrupts, say, table::table, tell};

/// Between two looks at a swarm key.
const LOOK: Duration = Duration::from_millis(500);
/// How long a charter holds where nobody says otherwise, in seconds: a year.
const CHARTER_SECONDS: u64 = 365 * 86_400;

#[derive(Subcommand)]
#[command(after_help = ABOUT)]
pub(super) enum KeyCommand {
    /// Says what custodians of a swarm key must be, signed by the operator's root. The first charter has the key made. Operator only.
    #[command(after_help = CHARTER_HELP)]
    Charter(Box<CharterArgs>),
    /// Who has the swarm keys, how many custodians may still be lost, and what to see to. Exit code 11 where a key is out of reach.
    #[command(after_help = STATUS_HELP)]
    Status(StatusArgs),
    /// Has another committee take over a swarm key now: the key stays, and shares of the committee before are worth nothing. Operator only.
    Rotate(RotateArgs),
    /// Checks for itself who has a swarm key, trusting your anchors alone, and remembers the key. Exit code 4 where something does not hold.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
}

const ABOUT: &str = "\
A swarm key is held by a committee of enclaves, its custodians, of which T of N open what is sealed to it, and fewer learn nothing. \
Nobody ever has it whole. docs/keys.md says what that rests on.";

const CHARTER_HELP: &str = "\
T of N: more than half of N, 2 to 64. No provider may have so many custodians that it opens alone, nor so many that the others do not \
open without it: --provider-max is at most T-1 and at most N-T. The larger N-T is, the more custodians may be lost at once.

Examples:
  legation key charter --of 5/9 --provider-max 3 --require 'tee == sev-snp and tcb.status == up-to-date'
  legation key charter --of 3/5 --epoch 12h --require any --operator operator.hsm.toml";

const STATUS_HELP: &str = "\
MARGIN is how many more custodians may be lost before nobody can open: at 0 the next one that goes takes the key with it, below 0 the \
key is out of reach until some are back.";

const VERIFY_HELP: &str = "\
Checked are the charter (by an operator of your anchors), the call, every word of the ceremony, the roster and the key that its \
dealings make, and a passport of each member. What the key was when you first saw it is in swarms.json of your home: another key is \
refused later. On first sight, compare it with what your operator says: --key.";

#[derive(clap::Args)]
pub(super) struct CharterArgs {
    /// Which swarm key: a-z, 0-9 and `-`.
    #[arg(long, value_name = "NAME", default_value = "main")]
    swarm: SwarmName,
    /// How many open, of how many custodians, as in `5/9`.
    #[arg(long, value_name = "T/N", value_parser = threshold)]
    of: Threshold,
    /// Most custodians with one provider. Default: as many as T of N lets be.
    #[arg(long, value_name = "N")]
    provider_max: Option<u16>,
    /// How long a committee has the key until another takes over, as in `1d`, `12h`, `90m` or `600s`.
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = seconds)]
    epoch: u64,
    /// What every custodian must satisfy, as for `legation run`; `any` asks nothing.
    #[arg(long, value_name = "EXPRESSION")]
    require: Requirement,
    /// No committee is called after, as a Unix time. Default: in a year.
    #[arg(long, value_name = "UNIX-TIME")]
    not_after: Option<u64>,
    /// The operator's root: `operator.key`, or `operator.hsm.toml` of one in a token. Default: that of the deployment that your home is in.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct StatusArgs {
    /// Which swarm key. Default: all.
    #[arg(long, value_name = "NAME")]
    swarm: Option<SwarmName>,
    /// Shows it again whenever it changes, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Prints JSON, a list of keys, as `--output json`; with --watch, a list on a line.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct RotateArgs {
    /// Which swarm key.
    #[arg(long, value_name = "NAME", default_value = "main")]
    swarm: SwarmName,
    /// Seconds to wait until another committee is in force; 0 asks for it and does not wait. Exit code 5 where it is not by then.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
}

#[derive(clap::Args)]
pub(super) struct VerifyArgs {
    /// Which swarm key.
    #[arg(long, value_name = "NAME", default_value = "main")]
    swarm: SwarmName,
    /// Checks what was saved, instead of what the manager has: nothing is asked of anybody.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Saves what was checked.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    save: Option<PathBuf>,
    /// The key that it must be, as its operator told you: SHA-256, hexadecimal.
    #[arg(long, value_name = "DIGEST")]
    key: Option<Digest>,
    /// What is revoked, as `legation revocations save FILE` wrote it. Default: as the manager says now; with --file, nothing.
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// Judges as of then, a Unix time: passports hold for hours. Default: now.
    #[arg(long, value_name = "UNIX-TIME")]
    at: Option<u64>,
    /// Takes this key in the place of another that was seen before.
    #[arg(long)]
    replace_pin: bool,
    /// Prints JSON, as `--output json`.
    #[arg(long)]
    json: bool,
}

pub(super) async fn command(context: &Context, command: KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Charter(args) => charter(context, &args).await,
        KeyCommand::Status(args) => status(context, &args).await,
        KeyCommand::Rotate(args) => rotate(context, &args).await,
        KeyCommand::Verify(args) => verify(context, &args).await,
    }
}

/// `T/N` of the command line.
pub(super) fn threshold(text: &str) -> Result<Threshold, String> {
    let (needed, members) = text.split_once('/').ok_or("wants T/N, such as 5/9")?;
    let number = |part: &str| part.trim().parse::<u16>().map_err(|_| "wants two numbers, such as 5/9".to_owned());
    Threshold::new(number(needed)?, number(members)?).map_err(|e| e.to_string())
}

/// A length of time of the command line, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wants = || "wants a time such as 1d, 12h, 90m or 600s".to_owned();
    let (number, each) = match text.as_bytes().last() {
        Some(b'd') => (text.strip_suffix('d'), 86_400),
        Some(b'h') => (text.strip_suffix('h'), 3600),
        Some(b'm') => (text.strip_suffix('m'), 60),
        Some(b's') => (text.strip_suffix('s'), 1),
        _ => (None, 1),
    };
    let number: u64 = number.and_then(|number| number.parse().ok()).ok_or_else(wants)?;
    number.checked_mul(each).ok_or_else(wants)
}

async fn charter(context: &Context, args: &CharterArgs) -> Result<Exit, Failure> {
    let (home, client) = (context.home()?, context.operator()?);
    let root = match &args.operator {
        Some(file) => Root::read(file)?,
        None => Root::of(home.path.parent().unwrap_or(Path::new(".")))?,
    };
    if !home.anchors.operators.contains(&root.public_key()) {
        let text =
            format!("{} is not the root of an operator in {}'s anchors", root.public_key().id(), home.path.display());
        return Err(Failure::new(Exit::Usage, text));
    }
    let terms = Terms {
        swarm: args.swarm.clone(),
        threshold: args.of,
        provider_max: args.provider_max,
        epoch_seconds: args.epoch,
        require: args.require.clone(),
        not_after: args.not_after.map(UnixTime),
    };
    let view = set_charter(&client, &root, terms).await?;
    context.print(&view, || detail(&view))?;
    Ok(Exit::Success)
}

/// What a charter is to say.
pub(super) struct Terms {
    pub(super) swarm: SwarmName,
    pub(super) threshold: Threshold,
    pub(super) provider_max: Option<u16>,
    pub(super) epoch_seconds: u64,
    pub(super) require: Requirement,
    pub(super) not_after: Option<UnixTime>,
}

/// Signs a charter that follows the one that the manager has, if it has one, and sends it there.
pub(super) async fn set_charter(client: &Client, root: &Root, terms: Terms) -> Result<CustodyView, Failure> {
    let before = match client.key_bundle(&terms.swarm).await {
        Ok(bundle) => Some(bundle.charter),
        Err(ClientError::Refused { why, .. }) if why.check == "custody.unknown" => None,
        Err(why) => return Err(why.into()),
    };
    let number = before.as_ref().map_or(Some(1), |before| before.number.checked_add(1));
    let number = number.ok_or_else(|| Failure::new(Exit::Usage, "no charter can follow the one in force"))?;
    let (needed, members) = (terms.threshold.needed(), terms.threshold.members());
    let charter = Charter {
        operator: root.public_key(),
        swarm: terms.swarm,
        number,
        threshold: terms.threshold,
        require: terms.require,
        // No provider opens alone, and the others open without any one.
        per_provider_max: terms.provider_max.unwrap_or(needed.saturating_sub(1).min(members.saturating_sub(needed))),
        epoch_seconds: terms.epoch_seconds,
        not_after: terms.not_after.unwrap_or(legation::run::now().plus(CHARTER_SECONDS)),
        prev: before.iter().map(Signed::digest).collect(),
    };
    charter.validate().map_err(|why| Failure::refused(Exit::Usage, &why))?;
    Ok(client.set_charter(root.charter(charter)?).await?)
}

/// The swarm keys that are asked for.
async fn looked_up(client: &Client, swarm: Option<&SwarmName>) -> Result<Vec<CustodyView>, ClientError> {
    match swarm {
        Some(swarm) => client.key(swarm).await.map(|key| vec![key]),
        None => client.keys().await,
    }
}

/// How a command ends that shows these.
fn standing(keys: &[CustodyView]) -> Exit {
    let lost = keys.iter().filter_map(|key| key.committee.as_ref()).any(|committee| committee.margin < 0);
    if lost { Exit::OutOfReach } else { Exit::Success }
}

async fn status(context: &Context, args: &StatusArgs) -> Result<Exit, Failure> {
    let client = context.client()?.1;
    let json = args.json || context.output == Output::Json;
    let mut keys = looked_up(&client, args.swarm.as_ref()).await?;
    if !args.watch {
        say(&if json { to_json(&keys)? } else { shown(&keys) })?;
        return Ok(standing(&keys));
    }
    let mut interrupts = Interrupts::new()?;
    loop {
        if json {
            say(&serde_json::to_string(&keys).map_err(|e| Failure::new(Exit::Failure, e))?)?;
        } else {
            say(&format!("--- {}\n{}", legation::run::now(), shown(&keys)))?;
        }
        let Some(changed) = interrupts.unless(changed(&client, args.swarm.as_ref(), &keys)).await else {
            return Ok(standing(&keys));
        };
        keys = changed;
    }
}

/// The swarm keys, once they are otherwise than `before`. A manager that is away is waited for.
async fn changed(client: &Client, swarm: Option<&SwarmName>, before: &[CustodyView]) -> Vec<CustodyView> {
    let before = ageless(before);
    let mut silent = false;
    loop {
        tokio::time::sleep(LOOK).await;
        match looked_up(client, swarm).await {
            Ok(now) if ageless(&now) != before => return now,
            Ok(_) => silent = false,
            Err(why) => {
                if !std::mem::replace(&mut silent, true) {
                    tell(&why.to_string());
                }
            }
        }
    }
}

/// Without what changes by itself.
fn ageless(keys: &[CustodyView]) -> Vec<CustodyView> {
    let mut keys = keys.to_vec();
    keys.iter_mut().filter_map(|key| key.committee.as_mut()).for_each(|committee| committee.age = 0);
    keys
}

async fn rotate(context: &Context, args: &RotateArgs) -> Result<Exit, Failure> {
    let client = context.operator()?;
    let epoch = |view: &CustodyView| view.committee.as_ref().map(|committee| committee.epoch);
    let before = epoch(&client.key(&args.swarm).await?);
    let mut view = client.rotate_key(&args.swarm).await?;
    let began = Instant::now();
    while args.wait > 0 && epoch(&view) <= before {
        let stuck = view.missing.as_ref().map(ToString::to_string);
        if stuck.is_some() || began.elapsed() >= Duration::from_secs(args.wait) {
            let why = stuck.unwrap_or_else(|| view.call.as_ref().map_or("nobody is called yet".to_owned(), ceremony));
            let text = format!("another committee is asked for, and not in force yet: {why}");
            return Err(Failure::new(Exit::NoEnclave, text));
        }
        tokio::time::sleep(LOOK).await;
        view = client.key(&args.swarm).await?;
    }
    context.print(&view, || detail(&view))?;
    Ok(Exit::Success)
}

/// What a check came to, for programs.
#[derive(Serialize)]
struct Verified {
    pinned: Pinned,
    #[serde(flatten)]
    key: CheckedKey,
}

async fn verify(context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    let home = context.home()?;
    let (bundle, revocations) = gathered(context, args, &home).await?;
    let now = legation::run::now();
    let reader =
        Reader { anchors: &home.anchors, revocations: revocations.as_deref(), now: args.at.map_or(now, UnixTime) };
    let invalid = |why: Rejection| Failure::refused(Exit::Attestation, &why);
    let mut key = check(&reader, &args.swarm, &bundle).map_err(invalid)?;
    if let Some(expected) = args.key.filter(|expected| *expected != key.id) {
        let why = Rejection::new("key.expected", format!("swarm key `{}`", key.swarm)).expected(expected).got(key.id);
        return Err(invalid(why.fix("do not use it: ask the operator by another way which key is theirs")));
    }
    let pinned = Pins::open(&home.path).and_then(|mut pins| pins.pin(&key, args.replace_pin, now)).map_err(invalid)?;
    if pinned != Pinned::Same && args.key.is_none() && key.dealers.is_some() {
        key.warnings.push(format!(
            "first seen in epoch {}: who had it before is not seen here. Compare it with what the operator says: --key",
            key.epoch
        ));
    }
    if let Some(path) = &args.save {
        let text = serde_json::to_string(&bundle).map_err(|e| Failure::new(Exit::Failure, e))?;
        std::fs::write(path, text + "\n")
            .map_err(|e| Failure::new(Exit::Usage, format!("cannot write {}: {e}", path.display())))?;
    }
    let verified = Verified { pinned, key };
    let json = args.json || context.output == Output::Json;
    say(&if json { to_json(&verified)? } else { verdict(&verified) })?;
    Ok(Exit::Success)
}

/// What is to be checked, and what is revoked.
async fn gathered(
    context: &Context,
    args: &VerifyArgs,
    home: &Home,
) -> Result<(KeyBundle, Option<Signed<RevocationList>>), Failure> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| Failure::new(Exit::Usage, format!("cannot read {}: {e}", path.display())))
    };
    let saved = |path: &PathBuf| read_revocations(&read(path)?, &home.anchors);
    let revocations = args.revocations.as_ref().map(saved).transpose()?;
    if let Some(path) = &args.file {
        let bundle = serde_json::from_slice(&read(path)?).map_err(|e| {
            Failure::new(Exit::Attestation, format!("{} does not show who has a swarm key: {e}", path.display()))
        })?;
        return Ok((bundle, revocations));
    }
    let client = context.client()?.1;
    let bundle = client.key_bundle(&args.swarm).await?;
    let revocations = match revocations {
        None => revoked(&client, &home.anchors).await?,
        saved => saved,
    };
    Ok((bundle, revocations))
}

/// What is revoked, as the manager says.
async fn revoked(client: &Client, anchors: &Anchors) -> Result<Option<Signed<RevocationList>>, Failure> {
    match client.signed_revocations().await {
        Ok(signed) => {
            let list = RevocationList::open(signed.list.envelope(), signed.appointment.envelope(), &anchors.operators);
            list.map(Some).map_err(|why| Failure::refused(Exit::Attestation, &why))
        }
        Err(ClientError::Refused { why, .. }) if why.check == "revocation.none" => Ok(None),
        Err(why) => Err(why.into()),
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::new(Exit::Failure, e))
}

/// A length of time, for people.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// In a word, how a key stands.
fn health(key: &CustodyView) -> &'static str {
    match &key.committee {
        None => "nobody has it yet",
        Some(committee) if committee.margin < 0 => "OUT OF REACH",
        Some(committee) if committee.margin == 0 => "AT RISK",
        Some(_) if key.warnings.is_empty() => "good",
        Some(_) => "see warnings",
    }
}

/// One key in detail; several in a table, with what is to be seen to.
fn shown(keys: &[CustodyView]) -> String {
    match keys {
        [] => "no swarm key: the operator makes one with `legation key charter`".to_owned(),
        [key] => detail(key),
        keys => {
            let rows = keys.iter().map(|key| {
                let of = |of: fn(&CommitteeView) -> String| key.committee.as_ref().map_or("-".to_owned(), of);
                [
                    key.swarm.to_string(),
                    of(|committee| committee.epoch.to_string()),
                    of(|committee| format!("{}/{}", committee.here, committee.threshold.members())),
                    of(|committee| committee.threshold.needed().to_string()),
                    of(|committee| committee.margin.to_string()),
                    of(|committee| span(committee.age)),
                    health(key).to_owned(),
                ]
            });
            let mut text = table(["KEY", "EPOCH", "HERE", "OPEN", "MARGIN", "AGE", "STATE"], rows);
            for key in keys {
                key.warnings.iter().for_each(|warning| text.push_str(&format!("\nwarning: {}: {warning}", key.swarm)));
            }
            text
        }
    }
}

/// How far a ceremony is, and whom it waits for.
fn ceremony(call: &CallView) -> String {
    let what = match call.stage {
        CallStage::Chairs => "chairs are taken",
        CallStage::Dealings => "dealings are there",
        CallStage::Acceptances => "dealings are complete",
        CallStage::Confirmations => "members have confirmed",
        CallStage::Handovers => "have handed over",
        CallStage::Over => {
            let why = call.ended.map_or("it is over".to_owned(), |why| why.to_string());
            return format!("attempt {} at epoch {} came to nothing: {why}", call.attempt, call.epoch);
        }
    };
    let waits = call.waits_for.iter().map(|enclave| enclave.short()).collect::<Vec<_>>().join(", ");
    let waits = if waits.is_empty() { waits } else { format!("; it waits for {waits}") };
    format!(
        "epoch {}, attempt {} until {}, because {}: {} of {} {what}{waits}",
        call.epoch, call.attempt, call.expires, call.why, call.done, call.needed
    )
}

fn state(state: MemberState) -> String {
    match state {
        MemberState::Here => "here".to_owned(),
        MemberState::Draining => "draining".to_owned(),
        MemberState::KeptBack => "cordoned by its operator".to_owned(),
        MemberState::Unproven { since } => format!("unproven since {since}"),
        MemberState::Away { since } => format!("away since {since}"),
        MemberState::Gone => "gone: its share is lost".to_owned(),
        MemberState::Revoked => "REVOKED".to_owned(),
    }
}

fn detail(key: &CustodyView) -> String {
    let charter = &key.charter;
    let mut lines = vec![format!("swarm key   {}: {}", key.swarm, health(key))];
    if let Some(committee) = &key.committee {
        lines.push(format!("key         {} (generation {})", committee.key.id(), committee.generation));
        lines.push(format!("epoch       {}, for {}, since {}", committee.epoch, span(committee.age), committee.since));
        lines.push(format!(
            "custodians  {} of {} are here, {} open: margin {}",
            committee.here,
            committee.threshold.members(),
            committee.threshold.needed(),
            committee.margin
        ));
    }
    lines.push(format!(
        "charter     {}: {}, at most {} with one provider, another committee every {}, until {}",
        charter.number,
        charter.threshold,
        charter.per_provider_max,
        span(charter.epoch_seconds),
        charter.not_after
    ));
    lines.push(format!("require     {}", charter.require));
    lines.extend(key.call.iter().map(|call| format!("ceremony    {}", ceremony(call))));
    lines.extend(key.due.iter().map(|due| format!("due         another committee: {due}")));
    if let Some(committee) = &key.committee {
        let rows = committee.members.iter().map(|member| {
            [
                member.index.to_string(),
                member.enclave.short(),
                member.provider.to_string(),
                state(member.state),
                if member.serves { "yes" } else { "no" }.to_owned(),
            ]
        });
        lines.push(String::new());
        lines.push(table(["SHARE", "ENCLAVE", "PROVIDER", "STATE", "RELEASES"], rows));
        let keeping = committee.keeping.iter().map(|enclave| enclave.short()).collect::<Vec<_>>();
        if !keeping.is_empty() {
            lines.push(format!("\nnot known to have erased shares of the epoch before: {}", keeping.join(", ")));
        }
    }
    if !key.warnings.is_empty() {
        lines.push(String::new());
        lines.extend(key.warnings.iter().map(|warning| format!("warning: {warning}")));
    }
    lines.join("\n")
}

fn verdict(Verified { pinned, key }: &Verified) -> String {
    let rows = key.members.iter().map(|member| {
        let doubt = member.doubt.as_ref().map_or("yes".to_owned(), |why| format!("not known: {why}"));
        [member.index.to_string(), member.enclave.short(), member.provider.to_string(), doubt]
    });
    let seen = match pinned {
        Pinned::New => "first seen now, and remembered",
        Pinned::Same => "the one that was seen before",
        Pinned::Replaced => "remembered in the place of another",
    };
    let mut text = format!(
        "key         {} (generation {}): {seen}\nepoch       {}, roster {}\nopen        {}, by charter {}\n\n{}\n",
        key.id,
        key.generation,
        key.epoch,
        key.roster,
        key.threshold,
        key.charter,
        table(["SHARE", "ENCLAVE", "PROVIDER", "AS THE CHARTER ASKS"], rows)
    );
    key.warnings.iter().for_each(|warning| text.push_str(&format!("\nwarning: {warning}")));
    text.push_str(&format!("\nswarm key `{}` is good", key.swarm));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_and_times_are_read() {
        let of = |text: &str| threshold(text).ok().map(|of| (of.needed(), of.members()));
        for (text, read) in [
            ("5/9", Some((5, 9))),
            ("2/2", Some((2, 2))),
            ("4/9", None),
            ("1/1", None),
            ("33/65", None),
            ("5", None),
            ("5/", None),
            ("/9", None),
            ("5/9/1", None),
            ("-5/9", None),
        ] {
            assert_eq!(of(text), read, "{text}");
        }
        for (text, read) in [
            ("1d", Some(86_400)),
            ("12h", Some(43_200)),
            ("90m", Some(5400)),
            ("600s", Some(600)),
            ("600", None),
            ("d", None),
            ("", None),
            ("1w", None),
            ("-1d", None),
            ("213503982334602d", None),
            ("1é", None),
        ] {
            assert_eq!(seconds(text).ok(), read, "{text}");
        }
    }
}
