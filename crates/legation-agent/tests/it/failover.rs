//! An agent with several managers finds the one that leads, and takes its work along.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use legation_agent::{AgentConfig, Status, config::Reconnect};
use legation_core::{PublicKey, Rejection, Signer, Term, UnixTime, claims::Role, statement::Office};
use legation_net::{
    Bounds, Credential, Endpoint, Judge, Listener, Standing,
    message::{ToAgent, ToManager},
};

use crate::{
    guests,
    manager::{Manager, config, simple, start},
    world::{self, MANAGER, now, sign},
};

/// How soon an agent must be with whoever leads.
const BACK: Duration = Duration::from_secs(2);

fn of(managers: &[String]) -> AgentConfig {
    // As agents are by default: what a test elsewhere makes shorter is what is tested here.
    AgentConfig { managers: managers.to_vec(), reconnect: Reconnect::default(), ..config("") }
}

/// A manager that stands by: it names another, and counts who asked.
struct Standby {
    listener: Listener,
    asked: Arc<AtomicUsize>,
}

struct Names {
    leader: String,
    asked: Arc<AtomicUsize>,
}

impl Judge for Names {
    fn judge(&self, _: Role, _: &PublicKey, _: &Credential, _: UnixTime) -> Result<Standing, Rejection> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Err(Rejection::new("manager.standby", "this manager").expected("the manager that leads").got(&self.leader))
    }
}

impl Standby {
    async fn naming(leader: &str) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let judge = Names { leader: leader.to_owned(), asked: asked.clone() };
        let appointment = sign(world::appointment(Office::Manager, now()));
        let credential = Credential::Appointment { appointment: appointment.envelope().clone() };
        let signer: Arc<dyn Signer> = Arc::new(world::identity(MANAGER));
        let endpoint = Endpoint::new(signer, Role::Manager, credential, Arc::new(judge), Arc::new(now)).unwrap();
        let listener = Listener::bind("127.0.0.1:0", Arc::new(endpoint), Bounds::DEFAULT).await.unwrap();
        Self { listener, asked }
    }

    fn address(&self) -> String {
        self.listener.address().to_string()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_that_leads_is_found_whatever_the_others_do() {
    let mut leader = Manager::new().await;
    let standby = Standby::naming(&leader.address()).await;
    // One that is frozen: the kernel takes connections for it, and nobody answers.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let frozen = (frozen.local_addr().unwrap().to_string(), frozen);
    for managers in [
        vec![gone, frozen.0.clone(), leader.address()],
        vec![frozen.0, standby.address(), leader.address()],
        vec![standby.address(), leader.address()],
    ] {
        let (began, agent) = (Instant::now(), start(of(&managers)));
        let conn = leader.admit().await;
        agent.sees(|s| matches!(s, Status::Present { .. })).await;
        assert!(began.elapsed() < BACK, "{managers:?}: {:?}", began.elapsed());
        agent.shutdown.now();
        agent.task.await.unwrap();
        drop(conn);
    }
    assert!(standby.asked() >= 2, "{}", standby.asked());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_leads_to_those_configured_alone() {
    let mut leader = Manager::new().await;
    let stranger = Standby::naming("nobody").await;
    let liar = Standby::naming(&stranger.address()).await;
    let agent = start(of(&[liar.address(), leader.address()]));
    let _conn = leader.admit().await;
    assert!(agent.saw(|s| matches!(s, Status::StandsBy { .. })));
    assert_eq!(stranger.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_there_soon_after_one_begins_to_lead() {
    // A port of its own that nobody listens on yet.
    let place = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let standby = Standby::naming("nobody").await;
    let agent = start(of(&[standby.address(), address.to_string()]));
    // Long enough that pauses which only double would be long by now.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let tries = standby.asked();
    assert!((4..=12).contains(&tries), "{tries} tries in four seconds");
    let mut leader = Manager::at(&address.to_string()).await;
    let began = Instant::now();
    let _conn = leader.admit().await;
    assert!(began.elapsed() < BACK, "{:?}", began.elapsed());
    assert!(!agent.task.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn work_and_reports_move_to_the_next_leader_with_the_passport() {
    let (mut first, mut second) = (Manager::new().await, Manager::new().await);
    // Leases are counted on by whoever leads next.
    second.leases = 10;
    let agent = start(of(&[first.address(), second.address()]));
    let mut conn = first.admit().await;
    let noop = std::fs::read(guests::path("noop.wasm")).unwrap();
    let module = first.serve(&noop);
    let done = first.offer(&conn, &simple(module, &[], 1), 0, &[], Vec::new());
    let lease = conn.offer(&done).await;
    let reported = conn.report(&mut first, lease).await;
    // It is not acknowledged: the manager says that it stands by from now on.
    let why = Rejection::new("manager.standby", "this manager").got(second.address());
    let passport = conn.passport.take();
    conn.sender.revoke(why);
    let left = Instant::now();

    let mut conn = second.accept().await;
    assert!(left.elapsed() < BACK, "{:?}", left.elapsed());
    assert!(conn.sender.standing().is_admitted(), "its passport is as good as before");
    conn.passport = passport;
    let ToManager::Present { running, obeyed } = conn.next(&mut second).await else { panic!("not present") };
    assert_eq!((running, obeyed.0), (vec![lease], Term(3)));
    let again = conn.report(&mut second, lease).await;
    assert_eq!(again.report.digest(), reported.report.digest());
    conn.say(&ToAgent::Acknowledged { lease }).await;

    // What the next leader offers is obeyed; what one of an older term offers is not.
    let newer = second.offer(&conn, &simple(module, &[], 2), 0, &[], Vec::new());
    let newer = legation_net::message::Offer { term: Term(4), ..newer };
    second.serve(&noop);
    let lease = conn.offer(&newer).await;
    conn.report(&mut second, lease).await;
    conn.say(&ToAgent::Acknowledged { lease }).await;
    let older = second.offer(&conn, &simple(module, &[], 3), 0, &[], Vec::new());
    let lease = conn.offer(&older).await;
    assert_eq!(conn.refusal(&mut second, lease).await.check, "offer.term");
    let obeyed = |s: &Status| match s {
        Status::Offer { obeyed, .. } => Some(obeyed.0),
        _ => None,
    };
    let terms: Vec<_> = agent.statuses.lock().unwrap().iter().filter_map(obeyed).collect();
    assert_eq!(terms, [Term(3), Term(4)]);
}
