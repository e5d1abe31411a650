//! Reference values in the journal: made, made anew, ended. They are never removed: a policy may still name them, and a
//! receipt's reader may ask who answered for one.

use std::sync::Arc;

use legation_core::{EnclaveId, Rejection, Seq, UnixTime};
use legation_policy::{ReferenceKind, ReferenceValue, References};
use serde::{Deserialize, Serialize};

use crate::{
    apply::Change,
    event::Event,
    pool::{Env, Pool},
    queue::Chances,
    text::cut,
};

/// A reference value as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReferenceView {
    /// The value.
    pub reference: ReferenceValue,
    /// Whether it still counts.
    pub holds: bool,
    /// Policies in force that use it; nothing where nobody does.
    pub used_by: Vec<String>,
}

impl Pool {
    /// The reference values.
    pub fn references(&self) -> &Arc<References> {
        &self.policies.references
    }

    /// All reference values as of `now`, by name.
    pub fn reference_views(&self, now: UnixTime) -> Vec<ReferenceView> {
        let view = |value: &ReferenceValue| ReferenceView {
            reference: value.clone(),
            holds: value.holds_at(now),
            used_by: self.users(&value.name),
        };
        self.references().iter().map(view).collect()
    }

    /// One reference value as of `now`.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn reference_view(&self, name: &str, now: UnixTime) -> Result<ReferenceView, Rejection> {
        let known = self.reference_views(now).into_iter().find(|view| view.reference.name == name);
        known.ok_or_else(|| unknown(name))
    }

    /// The image that an enclave runs, by its newest passport: what a reference value of it says.
    ///
    /// # Errors
    /// The enclave is unknown, or its evidence lacks what tells one image from another.
    pub fn image_of(&self, enclave: EnclaveId) -> Result<ReferenceKind, Rejection> {
        ReferenceKind::image_of(&self.known(enclave)?.typical().claims)
    }

    /// Policies in force that use a reference value.
    fn users(&self, name: &str) -> Vec<String> {
        let current = self.policies.current();
        current.filter(|(_, policy)| policy.uses(name)).map(|(scope, _)| scope.to_string()).collect()
    }

    pub(crate) fn add_reference(
        &mut self,
        value: ReferenceValue,
        author: &str,
        replace: bool,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let known = self.references().get(&value.name);
        if known == Some(&value) {
            return Ok(());
        }
        if let Some(known) = known.filter(|known| known.holds_at(env.now) && !replace) {
            return Err(Rejection::new("reference.name", format!("reference value `{}`", known.name))
                .expected("a name that is not taken")
                .got(format!("one of {} that still counts", known.owner))
                .fix("choose another name, or let the old one expire first"));
        }
        self.with_reference(&value)?;
        out.record(self, env, Event::ReferenceAdded { value: Box::new(value), author: cut(author) })?;
        out.chances = Chances::All;
        self.lapse(env, out)
    }

    pub(crate) fn expire_reference(
        &mut self,
        name: &str,
        end: Option<UnixTime>,
        author: &str,
        force: bool,
        env: &Env<'_>,
        out: &mut Change,
    ) -> Result<(), Rejection> {
        let value = self.references().get(name).ok_or_else(|| unknown(name))?;
        // The last second it counts: now is over, even if it was made just now.
        let end = end.unwrap_or(env.now.minus(1));
        if let Some(before) = value.expires.filter(|before| *before <= end) {
            if before == end || end < env.now {
                return Ok(());
            }
            return Err(Rejection::new("reference.expiry", format!("end of reference value `{name}`"))
                .expected(format!("at or before {before}, when it ends already"))
                .got(end)
                .fix("an end is never moved later: add the value again under another name"));
        }
        let users = self.users(name);
        if !users.is_empty() && !force {
            return Err(Rejection::new("reference.used", format!("reference value `{name}`"))
                .expected("one that no policy in force uses")
                .got(format!("used by {}", users.join(", ")))
                .fix("change the policy first, or use `--force`: enclaves of this image are then refused"));
        }
        out.record(self, env, Event::ReferenceExpired { name: name.to_owned(), end, author: cut(author) })?;
        out.chances = Chances::All;
        self.lapse(env, out)
    }

    /// The reference values with this one, if all policies in force can be held to them.
    pub(crate) fn with_reference(&self, value: &ReferenceValue) -> Result<Arc<References>, Rejection> {
        let mut references = (**self.references()).clone();
        references.remove(&value.name);
        references.add(value.clone())?;
        let references = Arc::new(references);
        for (_, policy) in self.policies.current() {
            policy.with_references(references.clone()).map_err(|e| e.rejection())?;
        }
        Ok(references)
    }

    pub(crate) fn absorb_reference(&mut self, value: &ReferenceValue, seq: Seq) -> Option<()> {
        let references = self.with_reference(value).ok()?;
        self.policies.hold_to(references, seq)
    }

    pub(crate) fn absorb_expiry(&mut self, name: &str, end: UnixTime, seq: Seq) -> Option<()> {
        let mut references = (**self.references()).clone();
        references.expire(name, end).then_some(())?;
        self.policies.hold_to(Arc::new(references), seq)
    }
}

fn unknown(name: &str) -> Rejection {
    Rejection::new("reference.unknown", format!("reference value `{}`", cut(name)))
        .expected("one of `legation reference list`")
        .got("none of that name")
        .fix("check the name, or add it by `legation reference add`")
}
