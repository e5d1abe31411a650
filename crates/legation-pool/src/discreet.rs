//! What tenants are not told: who the others are. Work that made way for another tenant's, or makes way, is told how urgent that is;
//! an enclave that is kept for somebody says so much, and not for whom; one that is doubted, how much, and not in whose tasks. The
//! journal and the operator's views keep all of it.

use legation_core::TenantId;

use crate::{
    event::LeaseEnd,
    explain::Explanation,
    preempt::Preemption,
    task::Attempt,
    view::{EnclaveView, TaskView},
};

impl LeaseEnd {
    /// The same without names of others.
    pub(crate) fn unnamed(&self) -> Self {
        match self {
            Self::Preempted { priority, .. } => Self::Preempted { by: None, tenant: None, priority: *priority },
            other => other.clone(),
        }
    }
}

fn hide(attempts: &mut [Attempt], preempted: &mut Option<Preemption>, own: &TenantId) {
    for end in attempts.iter_mut().filter_map(|attempt| attempt.ended.as_mut()) {
        if matches!(end, LeaseEnd::Preempted { tenant, .. } if tenant.as_ref() != Some(own)) {
            *end = end.unnamed();
        }
    }
    if let Some(preempted) = preempted.as_mut().filter(|p| p.tenant.as_ref() != Some(own)) {
        (preempted.by, preempted.tenant) = (None, None);
    }
}

impl TaskView {
    /// What the task's own tenant is shown.
    #[must_use]
    pub fn discreet(mut self) -> Self {
        for fragment in &mut self.fragments {
            hide(&mut fragment.attempts, &mut fragment.preempted, &self.tenant);
        }
        self
    }
}

impl Explanation {
    /// What the task's own tenant is shown.
    #[must_use]
    pub fn discreet(mut self, own: &TenantId) -> Self {
        hide(&mut self.attempts, &mut self.preempted, own);
        self
    }
}

impl EnclaveView {
    /// What tenants are shown.
    #[must_use]
    pub fn discreet(mut self) -> Self {
        self.claimed = None;
        if let Some(trust) = &mut self.trust {
            trust.found.clear();
        }
        self
    }
}
