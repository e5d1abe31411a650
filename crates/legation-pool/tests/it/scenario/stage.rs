//! A pool that scripts command: each command is one method, and what it did is told in the names of the script.

use std::fmt::Write;

use legation_core::{
    Bytes, MicroUsd, Millicores, Milligpus, Millis, ProviderId, Region, Rejection, ReservationId, Revocable, Signer,
    TaskId, TenantId,
    claims::{TcbStatus, TeeKind},
    dsse::sign,
    prefer::{Preferences, Priority, Spread},
    statement::Request,
    swarm::{SeatDemand, SwarmTerms},
    task::Fragment,
};
use legation_policy::Scope;
use legation_pool::{AccountTerms, Applied, Command, Phase, Quota, ReservationTerms, RoundTrip, Waiting};

use super::{
    script::{Line, Mistake, Word},
    words::{Names, decimal, size},
};
use crate::{
    swarms::{join, waiting},
    world::*,
};

/// Commands of scripts.
const COMMANDS: [&str; 26] = [
    "enclave",
    "account",
    "verifier",
    "renew",
    "policy",
    "distance",
    "submit",
    "cancel",
    "grant",
    "report",
    "fail",
    "refuse",
    "lose",
    "arrive",
    "drain",
    "cordon",
    "uncordon",
    "decommission",
    "reserve",
    "unreserve",
    "revoke",
    "join",
    "tick",
    "show",
    "explain",
    "expect",
];

pub(super) struct Stage {
    world: World,
    names: Names,
    distances: Vec<RoundTrip>,
    /// The check by which the next command must be refused, and where that is said.
    expected: Option<(String, Line)>,
}

impl Default for Stage {
    fn default() -> Self {
        let mut names = Names::default();
        names.others.insert(Key::new("verifier").public_key().id().short(), "verifier".into());
        names.others.insert(Key::new("verifier").public_key().id().to_string(), "verifier".into());
        Self { world: World::with(limits(), []), names, distances: Vec::new(), expected: None }
    }
}

/// What a command came to: something to say, or something that was applied.
enum Came {
    Said(String),
    Applied(Result<Applied, Rejection>),
}

type Done = Result<Came, Mistake>;

fn name<T>(new: impl Fn(&str) -> Option<T>) -> impl Fn(&str) -> Option<T> {
    move |text| new(text)
}

impl Stage {
    /// Plays one command; gives what it did.
    pub(super) fn play(&mut self, mut line: Line) -> Result<String, Mistake> {
        let came = match line.command.value.as_str() {
            "enclave" => self.enclave(&mut line),
            "account" => self.account(&mut line),
            "verifier" => self.verifier(&mut line),
            "renew" => self.renew(&mut line),
            "policy" => self.policy(&mut line),
            "distance" => self.distance(&mut line),
            "submit" => self.submit(&mut line),
            "cancel" => self.cancel(&mut line),
            "grant" | "report" | "fail" | "refuse" => self.of_lease(&mut line),
            "lose" | "arrive" | "drain" | "cordon" | "uncordon" | "decommission" => self.of_enclave(&mut line),
            "reserve" => self.reserve(&mut line),
            "unreserve" => self.unreserve(&mut line),
            "revoke" => self.revoke(&mut line),
            "join" => self.join(&mut line),
            "tick" => self.tick(&mut line),
            "show" => self.show(&mut line),
            "explain" => self.explain(&mut line),
            "expect" => return self.expect(line),
            other => Err(line.wrong(format!("no command `{other}`; there are {}", COMMANDS.join(", ")))),
        }?;
        self.told(&line, came)
    }

    /// A script may not end with an expectation.
    pub(super) fn end(&self) -> Result<(), Mistake> {
        match &self.expected {
            Some((_, line)) => Err(line.wrong("nothing follows that could be refused")),
            None => Ok(()),
        }
    }

    fn told(&mut self, line: &Line, came: Came) -> Result<String, Mistake> {
        let expected = self.expected.take();
        match (came, expected) {
            (Came::Said(text), None) => Ok(text),
            (Came::Said(_) | Came::Applied(Ok(_)), Some((check, _))) => {
                Err(line.wrong(format!("not refused, but `{check}` was expected")))
            }
            (Came::Applied(Err(why)), expected) => match expected {
                Some((check, _)) if check == why.check => Ok(self.names.plain(&format!("refused: {why}"))),
                _ => Err(line.wrong(self.names.plain(&format!("refused: {why}")))),
            },
            (Came::Applied(Ok(applied)), None) => {
                let records = applied.records.iter().filter_map(|r| self.names.record(r));
                let lines: Vec<_> =
                    records.chain(applied.effects.iter().filter_map(|e| self.names.effect(e))).collect();
                Ok(self.names.plain(&lines.join("\n")))
            }
        }
    }

    fn enclave(&mut self, line: &mut Line) -> Done {
        let word = line.bare("a name")?;
        let known = self.names.enclaves.iter().find(|(_, known)| **known == word.value).map(|(id, _)| *id);
        let chip_of = line.word("chip-of")?;
        let mut machine = Machine::new(&word.value);
        let configuration = &mut machine.configuration;
        let text = "a name";
        let provider = line.key("provider", text, name(|t| ProviderId::new(t).ok()))?;
        configuration.provider = provider.unwrap_or(configuration.provider.clone());
        let region = line.key("region", text, name(|t| Region::new(t).ok()))?;
        configuration.region = region.unwrap_or(configuration.region.clone());
        let price = line.key("price", "dollars for an hour of a core", |t| decimal(t, 1_000_000))?;
        configuration.rate.core_hour = price.map_or(configuration.rate.core_hour, MicroUsd);
        let cpu = line.key("cpu", "a number of cores", |t| decimal(t, 1000))?;
        configuration.capacity.cpu = cpu.map_or(configuration.capacity.cpu, Millicores);
        let memory = line.key("memory", "a size, such as 4GiB", size)?;
        configuration.capacity.memory = memory.map_or(configuration.capacity.memory, Bytes);
        let slots = line.key("slots", "a number", |t| t.parse().ok())?;
        configuration.capacity.slots = slots.unwrap_or(configuration.capacity.slots);
        configuration.slot = line.key("slot", "a number", |t| t.parse().ok())?.unwrap_or(0);
        let gpus: u32 = line.key("gpus", "a number", |t| t.parse().ok())?.unwrap_or(0);
        machine.gpus = (0..gpus).map(|n| &*format!("{} gpu {n}", word.value).leak()).collect();
        let model = line.key("model", text, |t| Some(&*t.to_owned().leak()))?;
        machine.model = model.unwrap_or(machine.model);
        let kinds = format!("one of {}", TeeKind::ALL.map(TeeKind::name).join(", "));
        machine.tee = line.key("tee", &kinds, TeeKind::named)?.unwrap_or(TeeKind::SevSnp);
        machine.tcb = self.tcb(line)?.unwrap_or(TcbStatus::UpToDate);
        if let Some(other) = chip_of {
            let id = self.id_of(line, &other)?;
            machine.chip = self.world.machines[&id].chip.clone();
        }
        let (by, life) = (line.word("by")?, self.life(line)?);
        let away = line.has("away");
        line.done()?;
        // One that was refused may be tried again.
        if known.is_some_and(|id| self.world.machines.contains_key(&id)) {
            return Err(line.wrong_at(&word, format!("there is an `{}` already; `renew` renews", word.value)));
        }
        self.names.enclaves.insert(machine.id, word.value);
        let command = self.attested(&machine, by.as_ref(), life);
        let (id, applied) = (machine.id, self.world.apply(command));
        if applied.is_ok() {
            self.world.machines.insert(id, machine);
        }
        Ok(Came::Applied(match applied {
            Ok(_) if !away => self.world.apply(Command::Arrived { enclave: id, running: Vec::new() }),
            other => other,
        }))
    }

    fn tcb(&self, line: &mut Line) -> Result<Option<TcbStatus>, Mistake> {
        let all = format!("one of {}", TcbStatus::ALL.map(TcbStatus::name).join(", "));
        line.key("tcb", &all, |t| TcbStatus::ALL.into_iter().find(|s| s.name() == t))
    }

    fn life(&self, line: &mut Line) -> Result<u64, Mistake> {
        Ok(line.key("life", "a number of seconds", |t| t.parse().ok())?.unwrap_or(HOUR))
    }

    /// A passport by the verifier of that name, or by the one that everybody has.
    fn attested(&self, machine: &Machine, by: Option<&Word>, life: u64) -> Command {
        let tenants: Option<Vec<&str>> = by.map(|by| {
            let scope = self.names.others.get(&format!("tenants of {}", by.value));
            scope.map(|s| s.split(',').collect()).unwrap_or_default()
        });
        let key = Key::new(by.map_or("verifier", |by| &by.value));
        let tenants = tenants.as_deref().filter(|t| !t.is_empty());
        self.world.attested_by(&key, tenants, machine, self.world.now.plus(life))
    }

    /// What a tenant may do; `everybody` is whoever has no account of its own.
    fn account(&mut self, line: &mut Line) -> Done {
        let word = line.bare("the name of a tenant, or `everybody`")?;
        let tenant = match (word.value.as_str(), TenantId::new(&word.value)) {
            ("everybody", _) => None,
            (_, Ok(tenant)) => Some(tenant),
            (_, Err(_)) => return Err(line.wrong_at(&word, "no name of a tenant")),
        };
        let usual = AccountTerms::default();
        let quota = Quota {
            cpu: line.key("cpu", "a number of cores", |t| decimal(t, 1000))?.map(Millicores),
            memory: line.key("memory", "a size, such as 4GiB", size)?.map(Bytes),
            gpus: line.key("gpus", "a number", |t| decimal(t, 1000))?.map(Milligpus),
            leases: line.key("leases", "a number", |t| t.parse().ok())?,
            tasks: line.key("tasks", "a number", |t| t.parse().ok())?,
        };
        let terms = AccountTerms {
            budget: line.key("budget", "dollars", |t| decimal(t, 1_000_000))?.map(MicroUsd),
            weight: line.key("weight", "a number", |t| t.parse().ok())?.unwrap_or(usual.weight),
            priority_max: line.key("priority", "0 to 9", |t| t.parse().ok())?.map_or(usual.priority_max, Priority),
            quota,
            may_preempt: line.has("may-preempt"),
            preemptible: line.has("preemptible"),
        };
        line.done()?;
        let command = Command::SetAccount { tenant, terms, as_of: None, author: "operator".into() };
        Ok(Came::Applied(self.world.apply(command)))
    }

    /// A verifier that is trusted with the work of some tenants alone.
    fn verifier(&mut self, line: &mut Line) -> Done {
        let word = line.bare("a name")?;
        let tenants = line.key("tenants", "names, with commas between", |t| Some(t.to_owned()))?.unwrap_or_default();
        line.done()?;
        let id = Key::new(&word.value).public_key().id();
        self.names.others.insert(id.to_string(), word.value.clone());
        self.names.others.insert(id.short(), word.value.clone());
        self.names.others.insert(format!("tenants of {}", word.value), tenants);
        Ok(Came::Said(String::new()))
    }

    fn renew(&mut self, line: &mut Line) -> Done {
        let word = line.bare("the name of an enclave")?;
        let id = self.id_of(line, &word)?;
        let (by, life, tcb) = (line.word("by")?, self.life(line)?, self.tcb(line)?);
        line.done()?;
        if let (Some(tcb), Some(machine)) = (tcb, self.world.machines.get_mut(&id)) {
            machine.tcb = tcb;
        }
        let command = self.attested(&self.world.machines[&id], by.as_ref(), life);
        Ok(Came::Applied(self.world.apply(command)))
    }

    fn policy(&mut self, line: &mut Line) -> Done {
        let word = line.bare("`pool` or the name of a tenant")?;
        line.done()?;
        let scope = match (word.value.as_str(), TenantId::new(&word.value)) {
            ("pool", _) => Scope::Pool,
            (_, Ok(tenant)) => Scope::Tenant(tenant),
            (_, Err(_)) => return Err(line.wrong_at(&word, "no name of a tenant")),
        };
        let text = line.text.take().unwrap_or_default();
        Ok(Came::Applied(self.world.apply(Command::SetPolicy { scope, text, author: "operator".into() })))
    }

    fn distance(&mut self, line: &mut Line) -> Done {
        let mut region = |what: &str| {
            let word = line.bare(what)?;
            Region::new(&word.value).map_err(|_| line.wrong_at(&word, "no name of a region"))
        };
        let (from, to) = (region("two regions")?, region("two regions")?);
        let ms = line.key("ms", "milliseconds", |t| t.parse().ok())?;
        let ms = ms.ok_or_else(|| line.wrong("`distance` wants ms=MILLISECONDS"))?;
        line.done()?;
        self.distances.push(RoundTrip { from, to, ms });
        let rows = self.distances.clone();
        Ok(Came::Applied(self.world.apply(Command::SetDistances { rows, author: "operator".into() })))
    }

    fn submit(&mut self, line: &mut Line) -> Done {
        let word = line.bare("a name")?;
        if self.names.tasks.values().any(|known| *known == word.value) {
            return Err(line.wrong_at(&word, format!("there is an `{}` already", word.value)));
        }
        let own = self.requirement(line, "own")?;
        let mut piece = Fragment { require: own, ..fragment("part") };
        let demand = &mut piece.demand;
        let cpu = line.key("cpu", "a number of cores", |t| decimal(t, 1000))?;
        demand.cpu = cpu.map_or(demand.cpu, Millicores);
        let memory = line.key("memory", "a size, such as 64MiB", size)?;
        demand.memory = memory.map_or(demand.memory, Bytes);
        demand.gpus = Milligpus(line.key("gpus", "a number", |t| decimal(t, 1000))?.unwrap_or(0));
        let time = line.key("time", "a number of seconds", |t| decimal(t, 1000))?;
        demand.time = time.map_or(demand.time, Millis);
        let count: usize = line.key("fragments", "a number", |t| t.parse().ok())?.unwrap_or(1);
        let mut fragments = vec![piece; count];
        if line.has("reducing") {
            let inputs = (0..).map(output_of).take(count).collect();
            fragments.push(reading(fragment("sum"), inputs));
        }
        let mut asked = request("client", &word.value, self.world.now, fragments);
        asked.require = self.requirement(line, "require")?;
        asked.tenant = line.key("tenant", "a name", |t| TenantId::new(t).ok())?.unwrap_or(asked.tenant);
        let budget = line.key("budget", "dollars", |t| decimal(t, 1_000_000))?;
        asked.budget = budget.map_or(asked.budget, MicroUsd);
        let life = line.key("life", "a number of seconds", |t| t.parse().ok())?.unwrap_or(HOUR);
        asked.expires = asked.created.plus(life);
        asked.prefer = self.preferences(line)?;
        asked.swarm = swarm_terms(line, &asked)?;
        if let Some(word) = line.word("reservation")? {
            asked.prefer.reservation = Some(self.reservation(line, &word)?);
        }
        let granted = !line.has("ungranted");
        line.done()?;
        let asked = sign(asked, &self.world.client);
        self.names.tasks.insert(TaskId::new(asked.digest()), word.value);
        let grant = sign(policy_grant(&asked, &self.world.client), &self.world.client);
        let grants = if granted { vec![grant] } else { Vec::new() };
        let applied = self.world.submit_with(&asked, grants, None);
        let task = TaskId::new(asked.digest());
        let waits = |applied: &Applied| {
            let queued = self.world.pool.tasks().get(&task)?.fragments.iter().filter(|f| f.phase == Phase::Queued);
            let (queued, placed) = (queued.count(), applied.records.iter().any(|r| r.event.kind() == "leased"));
            (queued > 0).then(|| format!("{queued} wait{}", if placed { ", the others are placed" } else { "" }))
        };
        match applied {
            Ok(applied) => {
                let waits = waits(&applied);
                let told = self.told(line, Came::Applied(Ok(applied)))?;
                let lines: Vec<_> = Some(told).filter(|t| !t.is_empty()).into_iter().chain(waits).collect();
                Ok(Came::Said(lines.join("\n")))
            }
            refused => Ok(Came::Applied(refused)),
        }
    }

    fn requirement(&self, line: &mut Line, key: &str) -> Result<legation_core::Requirement, Mistake> {
        let Some(word) = line.word(key)? else { return Ok(legation_core::Requirement::any()) };
        word.value.parse().map_err(|e| line.wrong_at(&word, format!("`{key}` is not understood: {e}")))
    }

    fn preferences(&self, line: &mut Line) -> Result<Preferences, Mistake> {
        let near = line.key("near", "a region", |t| Region::new(t).ok())?;
        let within = line.key("within", "milliseconds", |t| t.parse().ok().map(Millis))?;
        let mut prefer = Preferences { near, within, ..Preferences::default() };
        let json = |t: &str| serde_json::Value::String(t.to_owned());
        let spread = line.key("spread", "AXIS:RULE, such as provider:distinct, with commas between", |t| {
            let rule = |one: &str| {
                let (axis, rule) = one.split_once(':')?;
                let axis = serde_json::from_value(json(axis)).ok()?;
                Some(Spread { axis, rule: serde_json::from_value(json(rule)).ok()? })
            };
            t.split(',').map(rule).collect::<Option<Vec<_>>>()
        })?;
        prefer.spread = spread.unwrap_or_default();
        prefer.priority = Priority(line.key("priority", "0 to 9", |t| t.parse().ok())?.unwrap_or(4));
        let weights = &mut prefer.weights;
        for (key, weight) in [
            ("cost", &mut weights.cost),
            ("proximity", &mut weights.proximity),
            ("posture", &mut weights.posture),
            ("fit", &mut weights.fit),
        ] {
            *weight = line.key(key, "percent", |t| t.parse().ok())?.unwrap_or(*weight);
        }
        Ok(prefer)
    }

    fn cancel(&mut self, line: &mut Line) -> Done {
        let (task, _) = self.task(line)?;
        line.done()?;
        Ok(Came::Applied(self.world.apply(Command::Cancel { task })))
    }

    /// `TASK` or `TASK.FRAGMENT`.
    fn task(&self, line: &mut Line) -> Result<(TaskId, usize), Mistake> {
        let word = line.bare("the name of a task")?;
        let (task, index) = word.value.split_once('.').unwrap_or((&word.value, "0"));
        let known = self.names.tasks.iter().find(|(_, known)| *known == task).map(|(id, _)| *id);
        let known = known.filter(|id| self.world.pool.tasks().contains_key(id));
        let id = known.ok_or_else(|| line.wrong_at(&word, format!("no task `{task}`")))?;
        let count = self.world.pool.tasks()[&id].fragments.len();
        let index = index.parse().ok().filter(|n| *n < count);
        Ok((id, index.ok_or_else(|| line.wrong_at(&word, format!("`{task}` has fragments 0 to {}", count - 1)))?))
    }

    fn of_lease(&mut self, line: &mut Line) -> Done {
        let (task, index) = self.task(line)?;
        line.done()?;
        let (lease, _) = self.world.lease(task, index).ok_or_else(|| line.wrong("no enclave has this fragment now"))?;
        Ok(Came::Applied(Ok(match line.command.value.as_str() {
            "grant" => {
                let client = Key::new("client");
                self.world.grant(lease, &client)
            }
            "report" => self.world.run(lease),
            "fail" => self.world.fail(lease, "it failed"),
            _ => self.world.refuse(lease),
        })))
    }

    fn id_of(&self, line: &Line, word: &Word) -> Result<legation_core::EnclaveId, Mistake> {
        let known = self.names.enclaves.iter().find(|(_, known)| **known == word.value).map(|(id, _)| *id);
        known.ok_or_else(|| line.wrong_at(word, format!("no enclave `{}`", word.value)))
    }

    fn of_enclave(&mut self, line: &mut Line) -> Done {
        let word = line.bare("the name of an enclave")?;
        let enclave = self.id_of(line, &word)?;
        line.done()?;
        let (why, author) = ("it is to go".to_owned(), "operator".to_owned());
        Ok(Came::Applied(self.world.apply(match line.command.value.as_str() {
            "cordon" => Command::Cordon { enclave, why, author },
            "uncordon" => Command::Uncordon { enclave, author },
            "decommission" => Command::Decommission { enclave, why, author },
            "lose" => Command::Lost { enclave, why: "reset".into() },
            "arrive" => Command::Arrived { enclave, running: Vec::new() },
            _ => Command::Drain { enclave },
        })))
    }

    /// Seats from so many seconds after the beginning of the story to so many.
    fn reserve(&mut self, line: &mut Line) -> Done {
        let word = line.bare("a name")?;
        let require = self.requirement(line, "require")?;
        let number = "a number";
        let tenant = line.key("tenant", "a name", |t| TenantId::new(t).ok())?;
        let seats = line.key("seats", number, |t| t.parse().ok())?.unwrap_or(1);
        let mut demand = fragment("seat").demand;
        demand.cpu = line.key("cpu", "a number of cores", |t| decimal(t, 1000))?.map_or(demand.cpu, Millicores);
        demand.memory = line.key("memory", "a size, such as 64MiB", size)?.map_or(demand.memory, Bytes);
        let second = |t: &str| t.strip_prefix('+')?.parse().ok().map(|s: u64| START.plus(s));
        let from = line.key("from", "+SECONDS since the beginning", second)?;
        let until = line.key("until", "+SECONDS since the beginning", second)?;
        let prefer = self.preferences(line)?;
        line.done()?;
        let terms = ReservationTerms {
            tenant: tenant.unwrap_or_else(|| TenantId::new("acme").unwrap()),
            name: word.value.clone(),
            seats,
            demand,
            require,
            prefer,
            data: Default::default(),
            from: from.unwrap_or(self.world.now),
            until: until.ok_or_else(|| line.wrong("`reserve` wants until=+SECONDS"))?,
        };
        Ok(Came::Applied(self.world.apply(Command::Reserve { terms: Box::new(terms), author: "operator".into() })))
    }

    fn unreserve(&mut self, line: &mut Line) -> Done {
        let word = line.bare("the name of a reservation")?;
        let reservation = self.reservation(line, &word)?;
        line.done()?;
        let author = "operator".to_owned();
        Ok(Came::Applied(self.world.apply(Command::CancelReservation { reservation, author })))
    }

    fn reservation(&self, line: &Line, word: &Word) -> Result<ReservationId, Mistake> {
        let all = self.world.pool.reservations(|_| true, self.world.now).filter(|r| r.booking.terms.name == word.value);
        let last = all.last().map(|r| r.reservation);
        last.ok_or_else(|| line.wrong_at(word, format!("no reservation `{}`", word.value)))
    }

    fn revoke(&mut self, line: &mut Line) -> Done {
        let kind = line.bare("enclave, chip-of, provider or verifier")?;
        let word = line.bare("a name")?;
        line.done()?;
        let what = match kind.value.as_str() {
            "enclave" => Revocable::Enclave(self.id_of(line, &word)?),
            "chip-of" => Revocable::Chip(self.world.machines[&self.id_of(line, &word)?].chip.clone()),
            "provider" => Revocable::Provider(
                ProviderId::new(&word.value).map_err(|_| line.wrong_at(&word, "no name of a provider"))?,
            ),
            "verifier" => Revocable::Verifier(Key::new(&word.value).public_key().id()),
            _ => return Err(line.wrong_at(&kind, "wants enclave, chip-of, provider or verifier")),
        };
        Ok(Came::Applied(self.world.apply(Command::Revoke { what, why: "stolen".into() })))
    }

    /// `join TASK` by all who are asked to, or `join TASK NAME`.
    fn join(&mut self, line: &mut Line) -> Done {
        let (task, _) = self.task(line)?;
        let only = line.bare("the name of an enclave").ok().map(|word| self.id_of(line, &word)).transpose()?;
        line.done()?;
        let mut all = Applied::default();
        for enclave in waiting(&self.world, task).into_iter().filter(|id| only.is_none_or(|only| only == *id)) {
            let applied = join(&mut self.world, task, enclave);
            all.records.extend(applied.records);
            all.effects.extend(applied.effects);
        }
        Ok(Came::Applied(Ok(all)))
    }

    fn tick(&mut self, line: &mut Line) -> Done {
        let word = line.bare("+SECONDS")?;
        line.done()?;
        let seconds = word.value.strip_prefix('+').and_then(|n| n.parse().ok());
        let seconds: u64 = seconds.ok_or_else(|| line.wrong_at(&word, "`tick` wants +SECONDS"))?;
        self.world.now = self.world.now.plus(seconds);
        Ok(Came::Applied(self.world.apply(Command::Tick)))
    }

    fn show(&mut self, line: &mut Line) -> Done {
        let what = line.bare("`pool`, `queue` or the name of a task")?;
        line.done()?;
        let pool = &self.world.pool;
        let mut out = String::new();
        match what.value.as_str() {
            "pool" => {
                let view = pool.view();
                let _ = writeln!(
                    out,
                    "{} of {} enclaves are here; {} tasks live, {} fragments wait, {} leased",
                    view.enclaves_here, view.enclaves_known, view.tasks_live, view.fragments_queued, view.leases
                );
                let mut rows: Vec<_> = pool.enclaves().iter().map(|(id, e)| (&self.names.enclaves[id], e)).collect();
                rows.sort_by_key(|(name, _)| *name);
                for (name, enclave) in rows {
                    let (all, configuration) = (enclave.capacity(), &enclave.typical().configuration);
                    let state = match (enclave.revoked(), enclave.cordon()) {
                        (Some(_), _) => "revoked".to_owned(),
                        (None, Some(cordon)) => format!("cordoned: {}", cordon.why.check),
                        (None, None) => match enclave.presence() {
                            legation_pool::Presence::Away { .. } => "away".to_owned(),
                            here => format!("{here:?}").to_lowercase(),
                        },
                    };
                    let _ = writeln!(
                        out,
                        "{name}: {}, {}, {state}; {} of {} slots, {} of {} leased; proven until +{} s",
                        configuration.provider,
                        configuration.region,
                        enclave.leases().len(),
                        all.slots,
                        enclave.cpu_leased(),
                        all.cpu,
                        enclave.proof().expires.since(START),
                    );
                }
            }
            "queue" => {
                let mut waiting = Vec::new();
                for (id, task) in pool.tasks() {
                    let queued = task.fragments.iter().filter(|f| f.phase == Phase::Queued).count();
                    if queued > 0 {
                        waiting.push(format!("{}: {queued} wait", self.names.tasks[id]));
                    }
                }
                waiting.sort();
                for one in pool.reservations(|_| true, self.world.now) {
                    let (name, held) = (&one.booking.terms.name, one.held);
                    let state = one.booking.ended.map_or(format!("short of {}, {held} held", one.short), |_| {
                        format!("ended, charged {}", one.booking.charged)
                    });
                    let seats: Vec<_> =
                        one.booking.seats.iter().map(|s| self.names.enclaves[&s.enclave].clone()).collect();
                    waiting.push(format!("reservation {name} at {}: {state}", seats.join(", ")));
                }
                let _ =
                    writeln!(out, "{}", if waiting.is_empty() { "nothing waits".into() } else { waiting.join("\n") });
            }
            _ => {
                let found = self.names.tasks.iter().find(|(_, known)| **known == what.value).map(|(id, _)| *id);
                let id = found.ok_or_else(|| line.wrong_at(&what, format!("no task `{}`", what.value)))?;
                let view = pool.task_view(id).map_err(|why| line.wrong(why.to_string()))?;
                let _ = writeln!(out, "{:?}, spent {} of {}", view.state, view.spent, view.budget);
                out.extend(view.swarm.as_ref().map(|swarm| self.names.swarm(swarm)));
                for part in &view.fragments {
                    let phase = match &part.phase {
                        Phase::Leased { lease } => lease.to_string(),
                        phase => format!("{phase:?}").to_lowercase(),
                    };
                    let place = part.attempts.last().filter(|a| a.ended.is_none());
                    let place = place.map_or("-", |a| &self.names.enclaves[&a.enclave]);
                    let _ = writeln!(
                        out,
                        "{} {}: {phase} at {place}, tries {}",
                        part.fragment,
                        part.name,
                        part.attempts.len()
                    );
                    if let Some(Waiting { ahead, wait }) = part.waiting {
                        let wait = wait.map_or("nobody knows how long".into(), |w| {
                            format!("about {} s, {} s at most", w.seconds_expected, w.seconds_max)
                        });
                        let _ = writeln!(out, "  {ahead} go before it; {wait}");
                    }
                    if let Some(preempted) = &part.preempted {
                        let until = preempted.until.since(START);
                        let _ = writeln!(out, "  makes way for {} by +{until} s", preempted.by.unwrap());
                    }
                }
            }
        }
        Ok(Came::Said(self.names.plain(out.trim_end())))
    }

    fn explain(&mut self, line: &mut Line) -> Done {
        let (task, _) = self.task(line)?;
        line.done()?;
        let said = self.world.pool.explain(task, self.world.now).map_err(|why| line.wrong(why.to_string()))?;
        Ok(Came::Said(said.iter().map(|one| self.names.explained(one)).collect()))
    }

    fn expect(&mut self, mut line: Line) -> Result<String, Mistake> {
        let word = line.bare("`refusal` and a check")?;
        if word.value != "refusal" {
            return Err(line.wrong_at(&word, "wants `refusal` and a check"));
        }
        let check = line.bare("`refusal` and a check")?.value;
        line.done()?;
        self.expected = Some((check, line));
        Ok(String::new())
    }
}

/// What a line says of a swarm: seats of what the largest fragment needs, for ten times its time.
fn swarm_terms(line: &mut Line, asked: &Request) -> Result<Option<SwarmTerms>, Mistake> {
    let members = line.key("swarm", "a number of members", |t| t.parse().ok())?;
    let least = line.key("least", "a number of members", |t| t.parse().ok())?;
    let speculate = line.key("speculate", "percent", |t| t.parse().ok())?.unwrap_or(150);
    let Some(members) = members else { return Ok(None) };
    let demands = || asked.fragments.iter().map(|f| f.demand);
    let most = |of: fn(&legation_core::task::Demand) -> u64| demands().map(|d| of(&d)).max().unwrap_or(0);
    let seat = SeatDemand {
        cpu: Millicores(most(|d| d.cpu.0)),
        memory: Bytes(most(|d| d.memory.0)),
        gpus: Milligpus(most(|d| d.gpus.0)),
        time: Millis(most(|d| d.time.0).saturating_mul(10)),
    };
    Ok(Some(SwarmTerms { members, least, seat, speculate: Some(speculate).filter(|percent| *percent > 0) }))
}
