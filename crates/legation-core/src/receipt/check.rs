//! The checks of a receipt, link by link, in the order of the file.

use std::sync::Arc;

use super::{
    bounds::{self, Rests, SKEW},
    describe::describe,
    execution::executions,
    *,
};
use crate::{
    claims::{Judged, Role, Shelf, TcbStatus},
    grant::{self, Use},
    id::{ObjectId, TenantId},
    key::PublicKey,
    proven::Ledger,
    requirement::Candidate,
    statement::{Office, PASSPORT_LIFE_MAX, Tier},
    task::{Fragment, Input},
    unit::MicroUsd,
};

mod delegation;
mod proofs;
mod swarm;

pub(super) struct Chain<'a> {
    receipt: &'a Receipt,
    anchors: &'a Anchors,
    judge: &'a dyn EvidenceJudge,
    executions: &'a dyn ExecutionJudge,
    opened: BTreeMap<Digest, Opened>,
    evidence: BTreeMap<Digest, &'a Evidence>,
    used_evidence: BTreeSet<Digest>,
    collateral: BTreeMap<Digest, Arc<CollateralItem>>,
    used_collateral: BTreeSet<Digest>,
    warnings: BTreeSet<String>,
    names: BTreeSet<String>,
    development: bool,
    revoked: Revoked,
    /// Fragments that have a report, and those that have an aggregate.
    reported: BTreeSet<(TaskId, FragmentIndex)>,
    aggregated: BTreeSet<(TaskId, FragmentIndex)>,
    spent: BTreeMap<TaskId, MicroUsd>,
    handed: delegation::Handed,
    ledger: Ledger,
    links: Vec<Link>,
}

impl<'a> Chain<'a> {
    pub(super) fn new(
        receipt: &'a Receipt,
        anchors: &'a Anchors,
        judge: &'a dyn EvidenceJudge,
        executions: &'a dyn ExecutionJudge,
        revocations: Option<&RevocationList>,
    ) -> Result<Self, Invalid> {
        let file = |why: Rejection| Invalid { at: "the file".to_owned(), why };
        if receipt.version != VERSION {
            let why = Rejection::new("receipt.version", "version").expected(VERSION).got(&receipt.version);
            return Err(file(why.fix("use a program that knows this version")));
        }
        let digests: Vec<_> = receipt.evidence.iter().map(Evidence::digest).collect();
        if !digests.is_sorted_by(|a, b| a < b) {
            return Err(file(
                Rejection::new("receipt.evidence", "order of the evidence").expected("ascending by digest, each once"),
            ));
        }
        let collateral: BTreeMap<_, _> =
            receipt.collateral.iter().map(|item| (item.digest(), Arc::new(item.clone()))).collect();
        if !receipt.collateral.iter().map(CollateralItem::digest).is_sorted_by(|a, b| a < b) {
            let why = Rejection::new("receipt.collateral", "order of the collateral");
            return Err(file(why.expected("ascending by digest, each once")));
        }
        let by_digest: BTreeMap<_, _> = receipt.envelopes.iter().map(|e| (e.digest(), e)).collect();
        let order = walk(&receipt.roots, |d| by_digest.get(d).copied()).map_err(file)?;
        let found: Vec<_> = receipt.envelopes.iter().map(Envelope::digest).collect();
        if order != found {
            let place = order.iter().zip(&found).position(|(a, b)| a != b).unwrap_or(order.len().min(found.len()));
            let show = |list: &[Digest]| list.get(place).map_or("nothing".to_owned(), Digest::to_string);
            return Err(file(
                Rejection::new("receipt.order", format!("envelope {place} of the receipt"))
                    .expected(show(&order))
                    .got(show(&found))
                    .fix("statements were reordered, added or removed: use the receipt as it was written"),
            ));
        }
        Ok(Self {
            receipt,
            anchors,
            judge,
            executions,
            opened: BTreeMap::new(),
            evidence: digests.into_iter().zip(&receipt.evidence).collect(),
            used_evidence: BTreeSet::new(),
            collateral,
            used_collateral: BTreeSet::new(),
            warnings: BTreeSet::new(),
            names: BTreeSet::new(),
            development: false,
            revoked: revocations.into_iter().flat_map(|l| l.revocations.iter().cloned()).collect(),
            reported: BTreeSet::new(),
            aggregated: BTreeSet::new(),
            spent: BTreeMap::new(),
            handed: delegation::Handed::default(),
            ledger: Ledger::default(),
            links: Vec::new(),
        })
    }

    pub(super) fn verify(mut self) -> Result<Verdict, Invalid> {
        for envelope in &self.receipt.envelopes {
            let kind = envelope.predicate_type().unwrap_or_default();
            let short = short_kind(&kind);
            let at = |why: Rejection| Invalid { at: format!("{short} {}", envelope.digest().short()), why };
            let opened = self.open(&kind, envelope).map_err(at)?;
            let (says, prev) = describe(&opened);
            self.links.push(Link { digest: envelope.digest(), kind: short.to_owned(), says, prev });
            self.opened.insert(envelope.digest(), opened);
        }
        let file = |why: Rejection| Invalid { at: "the file".to_owned(), why };
        if let Some(extra) = self.evidence.keys().find(|d| !self.used_evidence.contains(d)) {
            return Err(file(Rejection::new("receipt.evidence", "evidence that no passport names").got(extra)));
        }
        if let Some(extra) = self.collateral.keys().find(|d| !self.used_collateral.contains(d)) {
            return Err(file(Rejection::new("receipt.collateral", "collateral that no passport names").got(extra)));
        }
        let (name, completed, results) = self.results().map_err(file)?;
        self.revocations().map_err(file)?;
        self.proofs()?;
        let executions = executions(&self.links, &self.opened, &self.ledger).map_err(file)?;
        Ok(Verdict {
            standing: if self.development { Standing::ValidButDevelopment } else { Standing::Valid },
            task: self.receipt.task,
            name,
            completed,
            revocations: self.receipt.revocations,
            anchors: self.names.into_iter().collect(),
            results,
            warnings: self.warnings.into_iter().collect(),
            executions,
            links: self.links,
        })
    }

    fn open(&mut self, kind: &str, envelope: &Envelope) -> Result<Opened, Rejection> {
        match kind {
            Appointment::TYPE => self.appointment(envelope).map(Opened::Appointment),
            Passport::TYPE => self.passport(envelope).map(Opened::Passport),
            Request::TYPE => self.request(envelope).map(Opened::Request),
            Allocation::TYPE => self.allocation(envelope).map(Opened::Allocation),
            Grant::TYPE => self.grant(envelope).map(Opened::Grant),
            Call::TYPE => self.call(envelope).map(Opened::Call),
            Report::TYPE => {
                let report = envelope.open::<Report>().map_err(unsigned)?;
                if report.answer.is_some() {
                    self.answer(&report)?;
                } else {
                    let cost = self.report(&report)?;
                    self.count(&report, cost)?;
                }
                self.questions(&report)?;
                Ok(Opened::Report(report))
            }
            Aggregate::TYPE => {
                let aggregate = self.aggregate(envelope)?;
                if !self.aggregated.insert((aggregate.task, aggregate.fragment)) {
                    return Err(Rejection::new("receipt.aggregate", "aggregates of one fragment").expected("one"));
                }
                Ok(Opened::Aggregate(aggregate))
            }
            Seating::TYPE => self.seating(envelope).map(Opened::Seating),
            Membership::TYPE => self.membership(envelope).map(Opened::Membership),
            other => {
                let got: String = other.chars().take(80).flat_map(char::escape_debug).collect();
                Err(Rejection::new("receipt.kind", "kind of statement").expected("one of ours").got(got))
            }
        }
    }

    fn appointment(&self, envelope: &Envelope) -> Result<Signed<Appointment>, Rejection> {
        let appointment = envelope.open::<Appointment>().map_err(unsigned)?;
        if !self.anchors.operators.contains(&appointment.operator) {
            return Err(Rejection::new("receipt.anchor", "operator behind an appointment")
                .expected("one of the anchor file")
                .got(appointment.operator.id())
                .fix("if you trust this operator, add its key to the anchor file"));
        }
        Ok(appointment)
    }

    /// The appointment that a statement of `key` in `office` at `at` rests on.
    fn appointed(
        &self,
        digest: Option<&Digest>,
        key: &PublicKey,
        office: Office,
        at: UnixTime,
    ) -> Result<&Signed<Appointment>, Rejection> {
        let Some(Opened::Appointment(appointment)) = digest.and_then(|d| self.opened.get(d)) else {
            return Err(Rejection::new("receipt.appointment", "what the statement rests on")
                .expected(format!("the appointment of its {office:?}")));
        };
        if appointment.key != *key || appointment.office != office {
            return Err(Rejection::new("receipt.appointment", "who was appointed")
                .expected(format!("{office:?} {}", key.id()))
                .got(format!("{:?} {}", appointment.office, appointment.key.id())));
        }
        if at < appointment.not_before.minus(SKEW) || at > appointment.not_after {
            return Err(Rejection::new("receipt.appointment", "dates of the appointment")
                .expected(format!("to cover {at}"))
                .got(format!("{} to {}", appointment.not_before, appointment.not_after)));
        }
        Ok(appointment)
    }

    fn passport(&mut self, envelope: &Envelope) -> Result<Signed<Passport>, Rejection> {
        let passport = envelope.open::<Passport>().map_err(unsigned)?;
        if passport.prev.len() != 1 {
            return Err(Rejection::new("receipt.passport", "what the passport rests on").expected("one appointment"));
        }
        let appointment =
            self.appointed(passport.prev.first(), &passport.verifier, Office::Verifier, passport.issued)?.clone();
        let longest = passport.issued.plus(PASSPORT_LIFE_MAX).min(appointment.not_after);
        if passport.expires <= passport.issued || passport.expires > longest {
            return Err(Rejection::new("receipt.passport", "life of the passport")
                .expected(format!("from {} to {longest} at most", passport.issued))
                .got(format!("{} to {}", passport.issued, passport.expires)));
        }
        let evidence = self.evidence.get(&passport.evidence).ok_or_else(|| {
            Rejection::new("receipt.evidence", "evidence behind the passport")
                .expected(passport.evidence)
                .got("nothing: it was removed or changed")
        })?;
        self.used_evidence.insert(passport.evidence);
        let shelf = self.shelf(&passport)?;
        let judged = self.judge.judge(evidence, &shelf, passport.issued)?;
        let Judged { claims, binding, configuration, collateral } = judged;
        self.used_collateral.extend(&collateral);
        let same = claims == passport.claims
            && collateral == passport.collateral
            && configuration == passport.configuration
            && binding.identity == passport.enclave
            && binding.sealing == passport.sealing;
        if !same {
            return Err(Rejection::new("receipt.passport", "what the passport says of the enclave")
                .expected("what its evidence says")
                .got("something else"));
        }
        if binding.role != Role::Agent || passport.expires > binding.not_after {
            return Err(Rejection::new("receipt.passport", "role and life of the keys behind the passport")
                .expected(format!("an agent's, to {} at least", passport.expires))
                .got(format!("a key of the {}, to {}", binding.role, binding.not_after)));
        }
        if !appointment.covers_kind(claims.tee.value) {
            return Err(Rejection::new("receipt.verifier", "kinds of machines that the verifier is trusted with")
                .expected(claims.tee.value)
                .got("not among them")
                .fix("have this kind judged by a verifier that is appointed for it"));
        }
        self.graded(&passport)?;
        if let Some(since) = claims.stale_since {
            let enclave = passport.enclave_id().short();
            self.warnings
                .insert(format!("enclave {enclave} was judged with collateral that was due for renewal at {since}"));
        }
        if let Some(grace) = &passport.ear.grace {
            let enclave = passport.enclave_id().short();
            self.warnings.insert(format!(
                "enclave {enclave} was admitted until {} by rule `{}`: {}",
                grace.until,
                grace.rule.escape_debug(),
                grace.why.escape_debug()
            ));
        }
        self.development |= claims.anchor.is_development();
        self.names.insert(claims.anchor.to_string());
        Ok(passport)
    }

    /// The collateral that `passport` names, to judge its evidence with.
    fn shelf(&self, passport: &Passport) -> Result<Shelf, Rejection> {
        let found = passport.collateral.iter().map(|digest| {
            self.collateral.get(digest).cloned().ok_or_else(|| {
                Rejection::new("receipt.collateral", "collateral behind the passport")
                    .expected(digest)
                    .got("nothing: it was removed or changed")
            })
        });
        found.collect()
    }

    /// The anchor is one the reader named, where it is a development root; anchor, machine and grade agree.
    fn graded(&self, passport: &Passport) -> Result<(), Rejection> {
        let (anchor, tee) = (&passport.claims.anchor, passport.claims.tee.value);
        if let Anchor::Development(name) = anchor
            && !self.anchors.development.iter().any(|root| root.name == *name)
            && !self.anchors.tpm.iter().any(|root| root.development && root.name == *name)
        {
            return Err(Rejection::new("receipt.anchor", "root behind the enclave")
                .expected("a vendor's, or a development root of the anchor file")
                .got(anchor)
                .fix("name the development root in the anchor file, if its word is good enough"));
        }
        let development = anchor.is_development();
        if development != tee.is_development() {
            return Err(Rejection::new("receipt.anchor", "root behind the enclave")
                .expected(format!("one for {tee}"))
                .got(anchor));
        }
        if passport.claims.debug.value {
            return Err(Rejection::new("receipt.debug", "debugging of the enclave")
                .expected("not permitted")
                .got("permitted: its host may read its memory"));
        }
        // A verifier may know more than the vendor says, and nothing else.
        let (vendors, theirs) = (&passport.claims.tcb.value, &passport.ear.tcb);
        let told = vendors == theirs || (vendors.status == TcbStatus::Unknown && vendors.version == theirs.version);
        if !told {
            return Err(Rejection::new("receipt.tcb", "security version in the appraisal")
                .expected(vendors)
                .got(theirs)
                .fix("the verifier contradicts the vendor: tell its operator"));
        }
        let good = match passport.ear.status {
            Tier::Affirming => !development,
            Tier::Warning => true,
            Tier::Contraindicated => false,
        };
        if !good {
            return Err(Rejection::new("receipt.passport", "status of the passport")
                .expected(if development { "warning" } else { "affirming or warning" })
                .got(format!("{:?}", passport.ear.status)));
        }
        Ok(())
    }

    fn request(&self, envelope: &Envelope) -> Result<Signed<Request>, Rejection> {
        let request = envelope.open::<Request>().map_err(unsigned)?;
        request.validate()?;
        let earlier = |d: &Digest| match self.opened.get(d) {
            Some(Opened::Report(report)) => report.answer.is_none(),
            Some(Opened::Aggregate(_)) => true,
            _ => false,
        };
        let once = request.prev.iter().collect::<BTreeSet<_>>().len() == request.prev.len();
        if !once || !request.prev.iter().all(earlier) {
            return Err(Rejection::new("receipt.request", "what the request builds on")
                .expected("reports or aggregates, each once"));
        }
        Ok(request)
    }

    fn find_request(&self, task: TaskId) -> Result<&Signed<Request>, Rejection> {
        match self.opened.get(&task.digest()) {
            Some(Opened::Request(request)) => Ok(request),
            _ => Err(Rejection::new("receipt.request", "request of the task").expected(task).got("nothing")),
        }
    }

    fn allocation(&self, envelope: &Envelope) -> Result<Signed<Allocation>, Rejection> {
        let allocation = envelope.open::<Allocation>().map_err(unsigned)?;
        let request = self.find_request(allocation.task)?;
        match &allocation.loan {
            Some(terms) => self.lent(request, &allocation, terms)?,
            None => self.placed(request, &allocation)?,
        }
        self.appointed(allocation.prev.get(1), &allocation.manager, Office::Manager, allocation.from)?;
        let begins_well = request.created.minus(SKEW) <= allocation.from && allocation.from <= request.expires;
        if !begins_well || allocation.until < allocation.from {
            return Err(Rejection::new("receipt.allocation", "dates of the allocation")
                .expected(format!("to begin within the request, {} to {}", request.created, request.expires))
                .got(format!("{} to {}", allocation.from, allocation.until)));
        }
        Ok(allocation)
    }

    /// What an allocation of a fragment rests on.
    fn placed(&self, request: &Signed<Request>, allocation: &Allocation) -> Result<(), Rejection> {
        let replaces = |digest: &Digest| {
            matches!(self.opened.get(digest), Some(Opened::Allocation(old))
                if old.loan.is_none()
                    && old.task == allocation.task
                    && old.fragment == allocation.fragment
                    && old.lease < allocation.lease
                    && old.term <= allocation.term
                    && old.revocations <= allocation.revocations)
        };
        let (rests_well, memberships) = match allocation.prev.as_slice() {
            [first, _, replaced, rest @ ..] if replaces(replaced) => (*first == request.digest(), rest),
            [first, _, rest @ ..] => (*first == request.digest() && (rest.is_empty() || request.swarm.is_some()), rest),
            _ => (false, &[][..]),
        };
        if !rests_well || request.fragment(allocation.fragment).is_none() {
            return Err(Rejection::new("receipt.allocation", "what the allocation rests on")
                .expected("the request, the manager's appointment, and the allocation it replaces if any"));
        }
        self.within_swarm(request, allocation, memberships)
    }

    fn grant(&self, envelope: &Envelope) -> Result<Signed<Grant>, Rejection> {
        let grant = envelope.open::<Grant>().map_err(unsigned)?;
        let request = self.find_request(grant.task)?;
        let passed_on = grant.prev.iter().any(|d| matches!(self.opened.get(d), Some(Opened::Grant(_))));
        match passed_on {
            true => self.passed_on(request, &grant)?,
            false => grant::check_grant(request, &grant)?,
        }
        Ok(grant)
    }

    /// Checks the report of a fragment; gives what it cost.
    fn report(&mut self, report: &Signed<Report>) -> Result<MicroUsd, Rejection> {
        let bad = |claim: &str| Rejection::new("receipt.report", claim.to_owned());
        let enclave: EnclaveId = report.enclave.enclave_id();
        let request = self.find_request(report.task)?;
        let fragment = request.fragment(report.fragment).ok_or_else(|| bad("fragment of the report"))?;
        let rests = self.rests(report)?;
        let (allocation, passport) = (rests.allocation, rests.passport);
        let promised = allocation.loan.is_none()
            && allocation.task == report.task
            && allocation.fragment == report.fragment
            && allocation.lease == report.lease
            && allocation.enclave == enclave;
        if !promised {
            return Err(bad("task, fragment, lease and enclave of the report")
                .expected(format!("those of {}: enclave {}", allocation.lease, allocation.enclave))
                .got(format!("{} of enclave {enclave}", report.lease)));
        }
        if passport.enclave != report.enclave {
            return Err(bad("passport of the report").expected(enclave).got(passport.enclave_id()));
        }
        self.trusted_by(&request.tenant, passport)?;
        bounds::in_time(report, request, &rests)?;
        if report.module != fragment.module {
            return Err(bad("module that ran").expected(fragment.module).got(report.module));
        }
        let (objects, commitments) = self.inputs(request, fragment, &rests.reports)?;
        if report.inputs != commitments {
            return Err(bad("inputs the enclave read").expected("those of the request").got("others"));
        }
        // Revocations are held against the report as of their epochs, below.
        let none = Revoked::default();
        let used = Use { fragment: report.fragment, enclave, objects: &objects, at: report.started, revoked: &none };
        grant::check_use(request, &rests.grants, &used)?;
        if let Some(other) = rests.grants.iter().find(|g| !g.covers(report.fragment, enclave)) {
            return Err(bad("a grant the report rests on")
                .expected(format!("one for fragment {} on enclave {}", report.fragment, enclave.short()))
                .got(other.digest()));
        }
        let candidate = Candidate { passport, price_hour: allocation.price_hour };
        request.require.check(&candidate)?;
        fragment.require.check(&candidate)?;
        request.data.check(passport)?;
        let demand = &fragment.demand;
        let price = passport.configuration.rate.per_hour(demand.cpu, demand.memory);
        let named = allocation.provider == passport.configuration.provider
            && allocation.region == passport.configuration.region
            && allocation.price_hour == price;
        if !named {
            return Err(bad("provider, region and price of the allocation")
                .expected(format!(
                    "{}, {}, {price} per hour",
                    passport.configuration.provider, passport.configuration.region
                ))
                .got(format!("{}, {}, {} per hour", allocation.provider, allocation.region, allocation.price_hour)));
        }
        let cost = bounds::within(report, fragment, &rests)?;
        // What is run in a seat is paid for by the seat, which no report speaks of.
        let cost = if allocation.seat.is_some() { MicroUsd::ZERO } else { cost };
        let warning = self.unrevoked(report, allocation, passport, rests.grants.iter())?;
        self.warnings.extend(warning);
        Ok(cost)
    }

    /// Check 8: nothing that a report rests on was revoked when it was finished. A warning about what was revoked later.
    fn unrevoked<'g>(
        &self,
        report: &Report,
        allocation: &Allocation,
        passport: &Passport,
        grants: impl Iterator<Item = &'g Signed<Grant>>,
    ) -> Result<Option<String>, Rejection> {
        let of_grants = grants.filter_map(|grant| self.revoked.of_grant(grant));
        let first = self.revoked.of(passport).into_iter().chain(of_grants).min_by_key(|r| r.epoch);
        let Some(revocation) = first else { return Ok(None) };
        // The enclave says when it finished; the manager says as of which revocation it was chosen.
        if report.finished >= revocation.at || allocation.revocations >= revocation.epoch {
            return Err(Rejection::new("receipt.revoked", format!("the {} behind the report", revocation.what))
                .expected(format!("not revoked at {}, when the report was finished", report.finished))
                .got(format!("revoked at {} (epoch {}): {}", revocation.at, revocation.epoch.0, revocation.why))
                .fix("have the task run again on other enclaves"));
        }
        Ok(Some(format!(
            "the {} behind fragment {} was revoked at {} (epoch {}), after its report was finished at {}: {}",
            revocation.what, report.fragment, revocation.at, revocation.epoch.0, report.finished, revocation.why
        )))
    }

    /// The verifier behind `passport` is trusted with the work of `tenant`.
    fn trusted_by(&self, tenant: &TenantId, passport: &Passport) -> Result<(), Rejection> {
        let appointment = passport.prev.first().and_then(|d| self.opened.get(d));
        match appointment {
            Some(Opened::Appointment(appointment)) if appointment.covers_tenant(tenant) => Ok(()),
            _ => Err(Rejection::new("receipt.verifier", "tenants whose work the verifier is trusted with")
                .expected(tenant)
                .got("not among them")
                .fix("place the work on an enclave with a passport of a verifier that is appointed for this tenant")),
        }
    }

    /// What a report rests on, in its order.
    fn rests(&self, report: &Report) -> Result<Rests<'_>, Rejection> {
        let bad = |claim: &str| Rejection::new("receipt.report", claim.to_owned());
        let mut rest = report.prev.iter();
        let Some(Opened::Allocation(allocation)) = rest.next().and_then(|d| self.opened.get(d)) else {
            return Err(bad("first statement the report rests on").expected("the allocation"));
        };
        let Some(Opened::Passport(passport)) = rest.next().and_then(|d| self.opened.get(d)) else {
            return Err(bad("second statement the report rests on").expected("the passport of its enclave"));
        };
        let (mut grants, mut reports): (Vec<Signed<Grant>>, _) = (Vec::new(), Vec::new());
        // Answers to calls that it made come last; `questions` looks at them.
        let mut answers = false;
        for digest in rest {
            match self.opened.get(digest) {
                Some(Opened::Grant(grant))
                    if reports.is_empty() && !answers && grants.last().is_none_or(|last| last.digest() < *digest) =>
                {
                    grants.push(grant.clone());
                }
                Some(Opened::Report(report)) if report.answer.is_some() => answers = true,
                Some(Opened::Report(report)) if !answers => reports.push(report),
                _ => {
                    return Err(bad("what the report rests on")
                        .expected("grants, ascending by digest and each once, then reports, then answers to its calls")
                        .got(digest));
                }
            }
        }
        Ok(Rests { allocation, passport, grants, reports })
    }

    /// Holds a report against the others: one for a fragment, all within the task's budget.
    fn count(&mut self, report: &Report, cost: MicroUsd) -> Result<(), Rejection> {
        if !self.reported.insert((report.task, report.fragment)) {
            return Err(Rejection::new("receipt.report", "reports of one fragment")
                .expected("one")
                .got(format!("another of fragment {}", report.fragment)));
        }
        let spent = self.spent.get(&report.task).copied().unwrap_or_default().saturating_add(cost);
        self.spent.insert(report.task, spent);
        let budget = self.find_request(report.task)?.budget;
        if spent > budget {
            return Err(Rejection::new("receipt.budget", "cost of the task").expected(budget).got(spent));
        }
        Ok(())
    }

    /// Objects and plaintext commitments of a fragment's inputs: by the request, or by the reports it rests on, in order.
    fn inputs(
        &self,
        request: &Signed<Request>,
        fragment: &Fragment,
        reports: &[&Signed<Report>],
    ) -> Result<(Vec<ObjectId>, Vec<Digest>), Rejection> {
        let mut upstream = reports.iter();
        let (mut objects, mut commitments) = (Vec::new(), Vec::new());
        for input in &fragment.inputs {
            match input {
                Input::Sealed(sealed) => {
                    objects.push(sealed.object);
                    commitments.push(sealed.commitment);
                }
                Input::Output { fragment } => {
                    let found = upstream.next().filter(|r| {
                        r.task.digest() == request.digest()
                            && r.fragment == *fragment
                            && r.outcome == Outcome::Completed
                    });
                    let Some(output) = found.and_then(|r| r.output.as_ref()) else {
                        return Err(Rejection::new("receipt.report", "report behind an input")
                            .expected(format!("a completed report of fragment {fragment} with an output")));
                    };
                    objects.push(output.object);
                    commitments.push(output.commitment);
                }
            }
        }
        if upstream.next().is_some() {
            return Err(Rejection::new("receipt.report", "reports beyond the inputs"));
        }
        Ok((objects, commitments))
    }

    fn aggregate(&self, envelope: &Envelope) -> Result<Signed<Aggregate>, Rejection> {
        let bad = |claim: &str| Rejection::new("receipt.aggregate", claim.to_owned());
        let aggregate = envelope.open::<Aggregate>().map_err(unsigned)?;
        let Some((Opened::Report(own), reports)) =
            aggregate.prev.split_first().and_then(|(own, rest)| Some((self.opened.get(own)?, rest)))
        else {
            return Err(bad("first statement the aggregate rests on").expected("its own report"));
        };
        // Answers to calls of its own are part of how it reduced, and not what it reduced.
        let read = |d: &&Digest| matches!(self.opened.get(d), Some(Opened::Report(r)) if r.answer.is_none());
        let behind: Vec<_> = own.prev.iter().filter(read).copied().collect();
        if reports != aggregate.reports || reports != behind || reports.is_empty() {
            return Err(bad("reports it aggregates").expected("exactly those its inputs came from"));
        }
        if own.outcome != Outcome::Completed {
            return Err(bad("its own report").expected("completed").got("failed"));
        }
        let same = own.enclave == aggregate.enclave
            && own.task == aggregate.task
            && own.fragment == aggregate.fragment
            && own.output == aggregate.result;
        if !same {
            return Err(bad("enclave, task, fragment and result").expected("those of its own report"));
        }
        Ok(aggregate)
    }

    /// Check 6: the task's name, whether it completed, and its results.
    fn results(&self) -> Result<(String, bool, Vec<Option<OutputRef>>), Rejection> {
        let request = self.find_request(self.receipt.task)?;
        let mut results = Vec::new();
        let mut found = Vec::new();
        let mut failed = 0;
        for root in &self.receipt.roots {
            let (report, result) = match self.opened.get(root) {
                Some(Opened::Report(report)) => (Some(report), report.output.clone()),
                Some(Opened::Aggregate(aggregate)) => {
                    let own = aggregate.prev.first().and_then(|d| self.opened.get(d));
                    let own = if let Some(Opened::Report(own)) = own { Some(own) } else { None };
                    (own, aggregate.result.clone())
                }
                _ => (None, None),
            };
            let Some(report) = report.filter(|r| r.task == self.receipt.task && r.answer.is_none()) else {
                return Err(Rejection::new("receipt.roots", "a root of the receipt")
                    .expected(format!("a report or an aggregate of task {}", self.receipt.task))
                    .got(root));
            };
            let completed = report.outcome == Outcome::Completed;
            failed += usize::from(!completed);
            let reducing = request.fragment(report.fragment).is_some_and(Fragment::is_reducing);
            if reducing && completed && !matches!(self.opened.get(root), Some(Opened::Aggregate(_))) {
                return Err(Rejection::new("receipt.roots", "a result that was reduced").expected("its aggregate"));
            }
            found.push(report.fragment);
            results.push(result);
        }
        // A failed task is proven by reports that failed, and by nothing else; a completed one needs every result.
        let wanted = request.results();
        let all = match failed {
            0 => found == wanted,
            _ => failed == found.len() && found.is_sorted_by(|a, b| a < b),
        };
        if !all {
            let show = |list: &[FragmentIndex]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let expected = if failed == 0 { show(&wanted) } else { "only reports that failed, in order".to_owned() };
            return Err(Rejection::new("receipt.roots", "results of the task").expected(expected).got(show(&found)));
        }
        Ok((request.name.clone(), failed == 0, results))
    }

    /// The header names a revocation without a signature of its own: allocations have one.
    fn revocations(&self) -> Result<(), Rejection> {
        let of_task = |opened: &Opened| match opened {
            Opened::Allocation(allocation) if allocation.task == self.receipt.task => Some(allocation.revocations),
            _ => None,
        };
        let latest = self.opened.values().filter_map(of_task).max().unwrap_or_default();
        if latest != self.receipt.revocations {
            return Err(Rejection::new(
                "receipt.revocations",
                "latest revocation that the allocations took into account",
            )
            .expected(latest.0)
            .got(self.receipt.revocations.0));
        }
        Ok(())
    }
}

/// Kind of a statement for people: the middle of its type.
fn short_kind(kind: &str) -> &'static str {
    match kind {
        Appointment::TYPE => "appointment",
        Passport::TYPE => "passport",
        Request::TYPE => "request",
        Allocation::TYPE => "allocation",
        Grant::TYPE => "grant",
        Call::TYPE => "call",
        Report::TYPE => "report",
        Aggregate::TYPE => "aggregate",
        Seating::TYPE => "seating",
        Membership::TYPE => "membership",
        _ => "statement",
    }
}

fn unsigned(error: EnvelopeError) -> Rejection {
    Rejection::new("receipt.signature", "signature of the statement")
        .expected("one by the key its office demands")
        .got(error)
        .fix("the statement was changed or signed by another key: do not rely on this receipt")
}
