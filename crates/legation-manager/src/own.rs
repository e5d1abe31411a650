//! The verifiers a manager asks: its own, in this process, and those of its configuration, behind HTTP.

use std::sync::Arc;

use legation_attest::{Judge, Roots};
use legation_core::{
    Envelope, Rejection, Signed,
    claims::Anchors,
    statement::{Appointment, Office},
};
use legation_keys::{Entropy, IdentityKey};
use legation_net::OsEntropy;
use legation_policy::Policy;
use legation_verifier::{
    Appraisers, Appraising, Door,
    activation::{Endorsements, TpmEndorsements},
    collateral::{Checker, Keeper, Wants},
    local::{LocalVerifier, Parts},
    remote::{self, RemoteConfig, RemoteVerifier},
};
use zeroize::Zeroizing;

use crate::{
    Clock,
    config::{ManagerConfig, RemoteVerifierConfig},
};

/// This manager's own verifier, and what keeps it current.
pub(crate) struct Own {
    pub(crate) door: Arc<dyn Door>,
    pub(crate) appraisers: Arc<Appraisers>,
    pub(crate) keeper: Arc<Keeper>,
}

impl Own {
    pub(crate) fn new(
        config: &ManagerConfig,
        anchors: &Anchors,
        key: IdentityKey,
        appointment: Signed<Appointment>,
        policy: Arc<Policy>,
        clock: Clock,
    ) -> Result<Self, Rejection> {
        let roots = Roots::new(anchors)?;
        let collateral = config.collateral().keeper()?;
        let keeper = Arc::new(Keeper::open(collateral, Checker::new(roots.clone()), Arc::clone(&clock))?);
        let appraisers = Arc::new(Appraisers::new(appraising(policy)));
        let mut secret = Zeroizing::new([0; 32]);
        OsEntropy.fill(&mut *secret);
        let grace = keeper.grace_seconds();
        let verifier = LocalVerifier::new(Parts {
            name: "local".to_owned(),
            key,
            appointment,
            judge: Arc::new(Judge::with_grace(roots.clone(), grace)),
            appraisers: Arc::clone(&appraisers),
            shelf: Arc::clone(keeper.shelf()),
            wants: Some(Arc::clone(&keeper) as Arc<dyn Wants>),
            challenge_secret: secret,
            endorsements: (!anchors.tpm.is_empty()).then(|| {
                let shelf = Arc::clone(keeper.shelf());
                Arc::new(TpmEndorsements::new(roots, shelf, grace)) as Arc<dyn Endorsements>
            }),
            clock,
        });
        Ok(Self { door: Arc::new(verifier), appraisers, keeper })
    }
}

/// A policy as a verifier takes it.
pub(crate) fn appraising(policy: Arc<Policy>) -> Appraising {
    Appraising { name: policy.name().to_owned(), digest: policy.digest(), appraiser: policy }
}

/// A door to a verifier of the configuration.
pub(crate) fn remote(config: &RemoteVerifierConfig, anchors: &Anchors) -> Result<Arc<dyn Door>, Rejection> {
    let at = |file: &std::path::Path| Rejection::new("config.verifier", file.display().to_string());
    let read = |file: &std::path::Path| {
        let text = std::fs::read_to_string(file).map(Zeroizing::new);
        text.map_err(|e| at(file).expected("a readable file").got(e).fix("correct the manager's configuration"))
    };
    let envelope: Envelope = serde_json::from_str(&read(&config.appointment)?).map_err(|e| {
        at(&config.appointment).expected("an appointment").got(e).fix("give the operator's appointment")
    })?;
    let appointment = envelope.open::<Appointment>().map_err(|e| {
        at(&config.appointment).expected("an appointment").got(e).fix("give the operator's appointment")
    })?;
    if !anchors.operators.contains(&appointment.operator) || appointment.office != Office::Verifier {
        return Err(at(&config.appointment)
            .expected("a verifier's appointment by an operator of the anchors")
            .got(format!("{:?} by {}", appointment.office, appointment.operator.id()))
            .fix("have the operator's root appoint the verifier: `legation verifier init --operator`"));
    }
    let token = config.token_file.as_deref().map(read).transpose()?;
    let token = token.map(|text| Zeroizing::new(text.trim().to_owned()));
    let verifier = RemoteVerifier::new(RemoteConfig {
        name: config.name.clone(),
        urls: config.urls.clone(),
        appointment,
        token,
        authorities: remote::authorities(config.authorities.as_deref())?,
    })?;
    Ok(Arc::new(verifier))
}
