//! What happens when this manager begins to lead, and when it ends: everything that a single manager does once at its start.
//!
//! 1. It takes in what is new in its folder ([`crate::seed`]) and has its verifier appraise by the policy in force; then agents are let in.
//! 2. While it leads, a change of the policy has every agent attest again.
//! 3. When it leads no longer, every channel ends, with where the leader is.

use std::{sync::Arc, time::Duration};

use legation_verifier::Appraisers;
use tracing::warn;

use crate::{
    config::ManagerConfig,
    gate::Gate,
    leader::{Leader, Role},
    own, seed,
};

/// Pause before a beginning that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Reign {
    pub(crate) leader: Leader,
    pub(crate) config: Arc<ManagerConfig>,
    pub(crate) appraisers: Arc<Appraisers>,
    pub(crate) gate: Arc<Gate>,
}

impl Reign {
    /// Lets agents in, to be judged by the policy in force.
    pub(crate) fn open(&self) {
        if let Some(policy) = self.leader.appraisal().borrow().clone() {
            self.appraisers.set(own::appraising(policy));
        }
        self.gate.open();
    }

    /// Follows this manager's role until it stops. `leads` says that it has begun already.
    pub(crate) async fn run(self, leads: bool) {
        let (mut role, mut policy) = (self.leader.role(), self.leader.appraisal());
        let mut begun = leads;
        policy.mark_unchanged();
        loop {
            let now = *role.borrow_and_update();
            match now {
                Role::Leads(..) if !begun => begun = self.begin(&mut policy).await,
                Role::Follows if begun => {
                    self.gate.close();
                    begun = false;
                }
                _ => {}
            }
            let again = matches!(now, Role::Leads(..)) && !begun;
            tokio::select! {
                changed = role.changed() => if changed.is_err() { return },
                changed = policy.changed(), if begun => match changed {
                    Ok(()) => self.policy_changed(&mut policy),
                    Err(_) => return,
                },
                () = tokio::time::sleep(AGAIN), if again => {}
            }
        }
    }

    async fn begin(&self, policy: &mut Policies) -> bool {
        match seed::seed(&self.leader, &self.config).await {
            Ok(()) => {
                policy.mark_unchanged();
                self.open();
                true
            }
            Err(why) => {
                warn!(%why, "this manager leads and cannot begin: no agent is let in yet");
                false
            }
        }
    }

    fn policy_changed(&self, policy: &mut Policies) {
        let now = policy.borrow_and_update().clone();
        if let Some(now) = now {
            self.appraisers.set(own::appraising(now));
        }
        self.gate.reattest_all("the policy or its reference values changed");
    }
}

/// What tells of the policy in force.
type Policies = tokio::sync::watch::Receiver<Option<Arc<legation_policy::Policy>>>;
