//! Accounts: what a tenant may spend, hold and ask for, as the operator says; and the books of what it does.
//!
//! 1. `account.budget`: what all tasks of a tenant cost, and what its leases may yet cost at most, never exceeds its budget.
//! 2. `account.quota`: no more of the pool is leased for it, and no more of its tasks live, than its quota.
//! 3. `account.priority`: no request of it is more urgent than it may be.
//!
//! Both ceilings are asked for each lease, before it is given; what an operator lowers ends nothing that runs. A tenant
//! without an account of its own has the pool's default account, whose quota and budget are each tenant's own.

use std::collections::BTreeMap;

use legation_core::{
    Bytes, MicroUsd, Millicores, Milligpus, Rejection, Seq, Signed, TenantId,
    claims::Rate,
    prefer::Priority,
    statement::Request,
    task::{Demand, Fragment},
};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    meter::Metered,
    pool::{Env, Pool},
    queue::Chances,
    reserve::{Booking, ReservationTerms},
    text::cut,
};

/// Accounts at most.
pub(crate) const ACCOUNTS_MAX: usize = 100_000;
/// Largest weight for fair queueing.
pub const WEIGHT_MAX: u32 = 10_000;
/// Weight of an account that says nothing else.
pub const WEIGHT_DEFAULT: u32 = 100;

/// What a tenant may have of the pool at once. What is not said is not limited.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Compute that is leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Millicores>,
    /// Memory that is leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Accelerators that are leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Milligpus>,
    /// Leases: fragments that run or are about to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<u64>,
    /// Tasks that have not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
}

/// What a tenant may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountTerms {
    /// What all its tasks together may cost; anything without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<MicroUsd>,
    /// Its share of a full pool, against the weights of the others that wait: 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// The most urgent that its requests may be.
    pub priority_max: Priority,
    /// What it may have at once.
    pub quota: Quota,
    /// Whether its requests may push work of others aside that may be pushed aside.
    pub may_preempt: bool,
    /// Whether its work may be pushed aside.
    pub preemptible: bool,
}

impl Default for AccountTerms {
    fn default() -> Self {
        Self {
            budget: None,
            weight: WEIGHT_DEFAULT,
            priority_max: Priority::default(),
            quota: Quota::default(),
            may_preempt: false,
            preemptible: false,
        }
    }
}

impl AccountTerms {
    /// What they must satisfy in themselves.
    ///
    /// # Errors
    /// `account.terms`: the first rule they break.
    pub fn validate(&self) -> Result<(), Rejection> {
        let bad = |claim: &str| Rejection::new("account.terms", claim.to_owned());
        if !(1..=WEIGHT_MAX).contains(&self.weight) {
            return Err(bad("weight of the account").expected(format!("1 to {WEIGHT_MAX}")).got(self.weight));
        }
        if self.priority_max > Priority::MAX {
            return Err(bad("highest priority of the account")
                .expected(format!("0 to {}", Priority::MAX))
                .got(self.priority_max));
        }
        Ok(())
    }

    fn is_limited(&self) -> bool {
        let Quota { cpu, memory, gpus, leases, tasks: _ } = &self.quota;
        self.budget.is_some() || cpu.is_some() || memory.is_some() || gpus.is_some() || leases.is_some()
    }
}

/// What a tenant has done and holds, counted as it happens.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Book {
    /// What its tasks have cost.
    pub spent: MicroUsd,
    /// What its leases may yet cost at most.
    pub committed: MicroUsd,
    /// Compute that is leased for it.
    pub cpu: Millicores,
    /// Memory that is leased for it.
    pub memory: Bytes,
    /// Accelerators that are leased for it.
    pub gpus: Milligpus,
    /// Its leases.
    pub leases: u64,
    /// Its tasks that have not ended.
    pub tasks: u64,
    /// Its fragments that wait for an enclave.
    pub queued: u64,
    /// What its tasks have used.
    pub metered: Metered,
}

/// An account as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountView {
    /// Whose; the default account's view names nobody.
    pub tenant: Option<TenantId>,
    /// Whether it is the tenant's own, and not the default.
    pub own: bool,
    /// The record that set its terms; zero for those that nobody set.
    pub as_of: Seq,
    /// What the tenant may do.
    pub terms: AccountTerms,
    /// What it does.
    pub book: Book,
    /// What it may still commit; anything without one.
    pub left: Option<MicroUsd>,
}

/// An account in the pool: its terms, as of which record.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) terms: AccountTerms,
    pub(crate) as_of: Seq,
}

/// All accounts, and the books of all tenants that ever did anything.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Accounts {
    pub(crate) default: Account,
    pub(crate) own: BTreeMap<TenantId, Account>,
    books: BTreeMap<TenantId, Entry>,
    /// The lowest price of a core and of a GiB that any enclave ever asked: what no lease falls below.
    cheapest: Option<Rate>,
}

/// A tenant's book, and what of it is of tasks that are forgotten.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) book: Book,
    pub(crate) forgotten: (MicroUsd, Metered),
}

/// What an account leaves room for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Headroom {
    /// Why the quota leaves no room for the demand, if so.
    pub refused: Option<Rejection>,
    /// What a lease may cost at most; anything without one.
    pub left: Option<MicroUsd>,
}

impl Headroom {
    /// Whether there is room for a lease that may cost this much.
    pub(crate) fn has_room(&self, cost_max: MicroUsd) -> bool {
        self.refused.is_none() && self.left.is_none_or(|left| cost_max <= left)
    }

    /// The check that refuses, where one does.
    pub(crate) fn check(&self) -> &str {
        self.refused.as_ref().map_or("account.budget", |why| &why.check)
    }

    /// Why a lease that may cost this much is refused, if so.
    pub fn refuses(&self, cost_max: MicroUsd) -> Option<Rejection> {
        self.refused
            .clone()
            .or_else(|| self.left.filter(|left| cost_max > *left).map(|left| over_budget(left, cost_max)))
    }
}

fn over_budget(left: MicroUsd, cost: MicroUsd) -> Rejection {
    Rejection::new("account.budget", "budget of the account")
        .expected(format!("{left} or less: what is neither spent nor committed"))
        .got(format!("up to {cost}"))
        .fix("have the operator top the account up, or wait until leases end for less than they might have cost")
}

fn over_quota(what: &str, most: impl std::fmt::Display, got: impl std::fmt::Display) -> Rejection {
    Rejection::new("account.quota", format!("{what} of the account"))
        .expected(format!("at most {most}"))
        .got(format!("{got} with this"))
        .fix("wait until other work of the tenant ends, or have the operator raise the quota")
}

impl Accounts {
    pub(crate) fn of(&self, tenant: &TenantId) -> &Account {
        self.own.get(tenant).unwrap_or(&self.default)
    }

    /// Whether what a tenant holds can keep its own work waiting.
    pub(crate) fn is_limited(&self, tenant: &TenantId) -> bool {
        self.of(tenant).terms.is_limited()
    }

    pub(crate) fn entries(&self) -> &BTreeMap<TenantId, Entry> {
        &self.books
    }

    /// The entry of a tenant; made where there is none.
    pub(crate) fn entry(&mut self, tenant: &TenantId) -> &mut Entry {
        self.books.entry(tenant.clone()).or_default()
    }

    /// Takes back an entry that was made for a question.
    pub(crate) fn close(&mut self, tenant: &TenantId) {
        self.books.remove(tenant);
    }

    /// A task was asked for, `queued` of whose fragments wait for an enclave.
    pub(crate) fn begin(&mut self, tenant: &TenantId, queued: u64) {
        let book = &mut self.entry(tenant).book;
        book.tasks = book.tasks.saturating_add(1);
        book.queued = book.queued.saturating_add(queued);
    }

    /// A task ended, `queued` of whose fragments waited for an enclave.
    pub(crate) fn end(&mut self, tenant: &TenantId, queued: u64) {
        let book = &mut self.entry(tenant).book;
        book.tasks = book.tasks.saturating_sub(1);
        book.queued = book.queued.saturating_sub(queued);
    }

    /// So many more fragments wait for an enclave.
    pub(crate) fn queue(&mut self, tenant: &TenantId, more: u64) {
        let book = &mut self.entry(tenant).book;
        book.queued = book.queued.saturating_add(more);
    }

    /// A fragment that waited was leased an enclave.
    pub(crate) fn take(&mut self, tenant: &TenantId, demand: &Demand, cost_max: MicroUsd) {
        let book = &mut self.entry(tenant).book;
        book.queued = book.queued.saturating_sub(1);
        book.committed = book.committed.saturating_add(cost_max);
        book.cpu = book.cpu.saturating_add(demand.cpu);
        book.memory = book.memory.saturating_add(demand.memory);
        book.gpus = book.gpus.saturating_add(demand.gpus);
        book.leases = book.leases.saturating_add(1);
    }

    /// A fragment that waited goes into a seat, which is counted already.
    pub(crate) fn dequeue(&mut self, tenant: &TenantId) {
        let book = &mut self.entry(tenant).book;
        book.queued = book.queued.saturating_sub(1);
    }

    /// A lease ended.
    pub(crate) fn give_back(&mut self, tenant: &TenantId, demand: &Demand, cost_max: MicroUsd) {
        let book = &mut self.entry(tenant).book;
        book.committed = book.committed.saturating_sub(cost_max);
        book.cpu = book.cpu.saturating_sub(demand.cpu);
        book.memory = book.memory.saturating_sub(demand.memory);
        book.gpus = book.gpus.saturating_sub(demand.gpus);
        book.leases = book.leases.saturating_sub(1);
    }

    /// What is committed for a reservation changes.
    pub(crate) fn hold(&mut self, tenant: &TenantId, before: MicroUsd, after: MicroUsd) {
        let book = &mut self.entry(tenant).book;
        book.committed = book.committed.saturating_sub(before).saturating_add(after);
    }

    /// A reservation was charged for the time that it was held.
    pub(crate) fn charge_for_time(&mut self, tenant: &TenantId, charged: MicroUsd) {
        let entry = self.entry(tenant);
        entry.book.spent = entry.book.spent.saturating_add(charged);
        entry.forgotten.0 = entry.forgotten.0.saturating_add(charged);
    }

    /// A fragment was run.
    pub(crate) fn charge(&mut self, tenant: &TenantId, charged: MicroUsd, metered: &Metered) {
        let book = &mut self.entry(tenant).book;
        book.spent = book.spent.saturating_add(charged);
        book.metered = book.metered.plus(metered);
    }

    /// A task is forgotten: what it cost is not.
    pub(crate) fn forget(&mut self, tenant: &TenantId, spent: MicroUsd, metered: &Metered) {
        let forgotten = &mut self.entry(tenant).forgotten;
        *forgotten = (forgotten.0.saturating_add(spent), forgotten.1.plus(metered));
    }

    /// An enclave asks this rate.
    pub(crate) fn note_rate(&mut self, rate: Rate) {
        let known = self.cheapest.unwrap_or(rate);
        self.cheapest =
            Some(Rate { core_hour: known.core_hour.min(rate.core_hour), gib_hour: known.gib_hour.min(rate.gib_hour) });
    }

    /// What a lease of this demand may cost at most where it costs least; nothing while no enclave was ever seen.
    fn floor(&self, demand: &Demand) -> Option<MicroUsd> {
        let Demand { cpu, memory, time, .. } = demand;
        Some(self.cheapest?.charge(*cpu, *memory, time.0.saturating_mul(1000)))
    }
}

impl Pool {
    /// The account of a tenant: its own, or the default, with its book.
    pub fn account(&self, tenant: &TenantId) -> AccountView {
        let Account { terms, as_of } = self.accounts.of(tenant).clone();
        let book = self.accounts.entries().get(tenant).map(|e| e.book.clone()).unwrap_or_default();
        AccountView {
            own: self.accounts.own.contains_key(tenant),
            left: left(&terms, &book),
            tenant: Some(tenant.clone()),
            as_of,
            terms,
            book,
        }
    }

    /// The default account: what a tenant without one of its own may do.
    pub fn default_account(&self) -> AccountView {
        let Account { terms, as_of } = self.accounts.default.clone();
        let (left, book) = (terms.budget, Book::default());
        AccountView { tenant: None, own: true, as_of, terms, book, left }
    }

    /// The accounts of all tenants that have one of their own or ever asked for a task, by name.
    pub fn accounts(&self) -> Vec<AccountView> {
        let names: std::collections::BTreeSet<_> =
            self.accounts.own.keys().chain(self.accounts.entries().keys()).collect();
        names.into_iter().map(|tenant| self.account(tenant)).collect()
    }

    /// What a tenant may do.
    pub fn account_terms(&self, tenant: &TenantId) -> &AccountTerms {
        &self.accounts.of(tenant).terms
    }

    /// What a tenant's account leaves room for, asked once for a demand and then held against each price.
    pub fn headroom(&self, tenant: &TenantId, demand: &Demand) -> Headroom {
        let terms = &self.accounts.of(tenant).terms;
        if !terms.is_limited() {
            return Headroom { refused: None, left: None };
        }
        let none = Book::default();
        let book = self.accounts.entries().get(tenant).map_or(&none, |entry| &entry.book);
        Headroom { refused: over(&terms.quota, book, demand), left: left(terms, book) }
    }

    /// What of a tenant's quota a demand would exceed, beside what is held and these others.
    pub(crate) fn quota_beside(&self, tenant: &TenantId, others: &Book, demand: &Demand) -> Option<Rejection> {
        let mut book = self.accounts.entries().get(tenant).map(|entry| entry.book.clone()).unwrap_or_default();
        book.cpu = book.cpu.saturating_add(others.cpu);
        book.memory = book.memory.saturating_add(others.memory);
        book.gpus = book.gpus.saturating_add(others.gpus);
        book.leases = book.leases.saturating_add(others.leases);
        over(&self.accounts.of(tenant).terms.quota, &book, demand)
    }

    /// Whether a tenant may have seats like these beside those that it has reserved for the same time.
    pub(crate) fn check_seats(&self, terms: &ReservationTerms) -> Result<(), Rejection> {
        let seats = u64::from(terms.seats);
        let Demand { cpu, memory, gpus, .. } = terms.demand;
        let all = Demand {
            cpu: Millicores(cpu.0.saturating_mul(seats)),
            memory: Bytes(memory.0.saturating_mul(seats)),
            gpus: Milligpus(gpus.0.saturating_mul(seats)),
            ..terms.demand
        };
        let mut others = Book { leases: seats.saturating_sub(1), ..Book::default() };
        let meanwhile = |b: &&Booking| b.terms.from <= terms.until && terms.from <= b.terms.until;
        let own = self.reservations.values().filter(|b| b.ended.is_none() && b.terms.tenant == terms.tenant);
        for Booking { terms: other, .. } in own.filter(meanwhile) {
            let add = |sum: u64, one: u64| sum.saturating_add(one.saturating_mul(u64::from(other.seats)));
            others.cpu = Millicores(add(others.cpu.0, other.demand.cpu.0));
            others.memory = Bytes(add(others.memory.0, other.demand.memory.0));
            others.gpus = Milligpus(add(others.gpus.0, other.demand.gpus.0));
            others.leases = add(others.leases, 1);
        }
        match over(&self.accounts.of(&terms.tenant).terms.quota, &others, &all) {
            Some(why) => Err(why.fix("reserve fewer or smaller seats, or have the operator raise the quota")),
            None => Ok(()),
        }
    }

    /// Whether a tenant could pay so much beside what is spent and committed.
    pub(crate) fn check_left(&self, tenant: &TenantId, cost: MicroUsd) -> Result<(), Rejection> {
        match self.account(tenant).left.filter(|left| cost > *left) {
            Some(left) => Err(over_budget(left, cost)),
            None => Ok(()),
        }
    }

    /// Why a tenant's account has no room for a lease of this demand at this cost, if so: `account.quota`, `account.budget`.
    pub fn quota_refuses(&self, tenant: &TenantId, demand: &Demand, cost_max: MicroUsd) -> Option<Rejection> {
        self.headroom(tenant, demand).refuses(cost_max)
    }

    /// Whether a request may be asked for at all: what no wait would mend is refused at once.
    pub(crate) fn check_account(&self, request: &Signed<Request>) -> Result<(), Rejection> {
        let terms = &self.accounts.of(&request.tenant).terms;
        let none = Book::default();
        let book = self.accounts.entries().get(&request.tenant).map_or(&none, |entry| &entry.book);
        if request.prefer.priority > terms.priority_max {
            return Err(Rejection::new("account.priority", "priority of the request")
                .expected(format!("at most {}, as the account of {} allows", terms.priority_max, request.tenant))
                .got(request.prefer.priority)
                .fix("ask for less, or have the operator raise it"));
        }
        if let Some(most) = terms.quota.tasks.filter(|most| book.tasks >= *most) {
            return Err(over_quota("live tasks", most, book.tasks.saturating_add(1)));
        }
        // What is committed may be spent or not: what is spent is gone.
        let left = terms.budget.map(|budget| budget.saturating_sub(book.spent));
        for (index, fragment) in request.indexed() {
            let alone = over(&terms.quota, &none, &fragment.demand);
            if let Some(why) = alone {
                return Err(why.fix(format!("fragment {index} alone needs more than the account of {} may have: ask for less, or have the operator raise the quota", request.tenant)));
            }
            let Some(floor) = self.accounts.floor(&fragment.demand) else { continue };
            affordable(index.0, fragment, floor, request.budget, left)?;
        }
        Ok(())
    }

    /// Whether a swarm may be asked for at all: what all of its seats together need, no wait would mend.
    pub(crate) fn check_swarm_account(&self, request: &Signed<Request>) -> Result<(), Rejection> {
        let Some(terms) = &request.swarm else { return Ok(()) };
        let (seat, members) = (terms.seat_of(request), u64::from(terms.members));
        let all = Demand {
            cpu: Millicores(seat.demand.cpu.0.saturating_mul(members)),
            memory: Bytes(seat.demand.memory.0.saturating_mul(members)),
            gpus: Milligpus(seat.demand.gpus.0.saturating_mul(members)),
            ..seat.demand
        };
        let account = &self.accounts.of(&request.tenant).terms;
        let held = Book { leases: members.saturating_sub(1), ..Book::default() };
        if let Some(why) = over(&account.quota, &held, &all) {
            let fix = format!(
                "the {members} seats together need more than the account may have: ask for fewer or smaller ones"
            );
            return Err(why.fix(fix));
        }
        let Some(floor) = self.accounts.floor(&all) else { return Ok(()) };
        if request.budget < floor {
            return Err(Rejection::new("request.budget", "budget of the request")
                .expected(format!("{floor} at least: {members} seats for all of their time, where they cost least"))
                .got(request.budget)
                .fix("raise the budget, or ask for fewer seats or for less time"));
        }
        Ok(())
    }

    /// Sets an account: the default one where no tenant is named.
    pub(crate) fn set_account(
        &mut self,
        tenant: Option<TenantId>,
        terms: AccountTerms,
        as_of: Option<Seq>,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        terms.validate()?;
        let known = tenant.as_ref().map_or(Some(&self.accounts.default), |t| self.accounts.own.get(t));
        if let Some(as_of) = as_of
            && known.map_or(Seq(0), |account| account.as_of) != as_of
        {
            return Err(Rejection::new("account.changed", "terms of the account")
                .expected(format!("those of record {}", as_of.0))
                .got(known.map_or("none".to_owned(), |account| format!("those of record {}", account.as_of.0)))
                .fix("look at them again"));
        }
        if known.is_some_and(|account| account.terms == terms && (account.as_of > Seq(0) || tenant.is_none())) {
            return Ok(());
        }
        if known.is_none() && self.accounts.own.len() >= ACCOUNTS_MAX {
            return Err(Rejection::new("account.count", "number of accounts")
                .expected(format!("at most {ACCOUNTS_MAX}"))
                .fix("use the default account"));
        }
        out.record(self, env, Event::AccountSet { tenant, terms, topped_up: None, author: cut(author) })?;
        out.chances = Chances::All;
        Ok(())
    }

    /// Raises the budget of an account.
    pub(crate) fn top_up(
        &mut self,
        tenant: TenantId,
        amount: MicroUsd,
        author: &str,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let refuse = |expected: &str, got: String| {
            Rejection::new("account.top-up", format!("budget of the account of {tenant}"))
                .expected(expected)
                .got(got)
                .fix("set a budget by `legation account set`")
        };
        let account = self.accounts.own.get(&tenant);
        let account = account.ok_or_else(|| refuse("an account of its own", "the default account".into()))?;
        let budget = account.terms.budget.ok_or_else(|| refuse("a budget", "none: it may spend anything".into()))?;
        let raised = budget.checked_add(amount).filter(|raised| *raised > budget);
        let raised = raised.ok_or_else(|| refuse("an amount that can be added to it", amount.to_string()))?;
        let terms = AccountTerms { budget: Some(raised), ..account.terms.clone() };
        let event = Event::AccountSet { tenant: Some(tenant), terms, topped_up: Some(amount), author: cut(author) };
        out.record(self, env, event)?;
        out.chances = Chances::All;
        Ok(())
    }

    pub(crate) fn absorb_account(&mut self, tenant: Option<&TenantId>, terms: &AccountTerms, seq: Seq) {
        let account = Account { terms: terms.clone(), as_of: seq };
        match tenant {
            Some(tenant) => drop(self.accounts.own.insert(tenant.clone(), account)),
            None => self.accounts.default = account,
        }
        self.list_pushable();
    }
}

fn left(terms: &AccountTerms, book: &Book) -> Option<MicroUsd> {
    terms.budget.map(|budget| budget.saturating_sub(book.spent.saturating_add(book.committed)))
}

/// What of a quota a demand would exceed, beside what is held.
fn over(quota: &Quota, book: &Book, demand: &Demand) -> Option<Rejection> {
    let cpu = book.cpu.saturating_add(demand.cpu);
    let memory = book.memory.saturating_add(demand.memory);
    let gpus = book.gpus.saturating_add(demand.gpus);
    let leases = book.leases.saturating_add(1);
    if let Some(most) = quota.cpu.filter(|most| cpu > *most) {
        return Some(over_quota("compute", most, cpu));
    }
    if let Some(most) = quota.memory.filter(|most| memory > *most) {
        return Some(over_quota("memory", most, memory));
    }
    if let Some(most) = quota.gpus.filter(|most| gpus > *most) {
        return Some(over_quota("accelerators", most, gpus));
    }
    quota.leases.filter(|most| leases > *most).map(|most| over_quota("leases", most, leases))
}

/// Whether a fragment can be paid at all, where it costs least.
fn affordable(
    index: u32,
    fragment: &Fragment,
    floor: MicroUsd,
    budget: MicroUsd,
    left: Option<MicroUsd>,
) -> Result<(), Rejection> {
    let dear = |check: &str, whose: &str| {
        Rejection::new(check, format!("budget of the {whose}"))
            .expected(format!("{floor} at least: fragment #{index} `{}` where it costs least", fragment.name))
    };
    if budget < floor {
        let why = dear("request.budget", "request").got(budget);
        return Err(why.fix("raise the budget, or shorten the time limit"));
    }
    match left.filter(|left| *left < floor) {
        Some(left) => {
            let why = dear("account.budget", "account").got(format!("{left} left"));
            Err(why.fix("have the operator top the account up, or shorten the time limit"))
        }
        None => Ok(()),
    }
}
