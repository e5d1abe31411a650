//! The committed specification of the API is the one that the code makes, and the one that the manager serves.

use std::collections::BTreeSet;

use legation_manager::api::specification;
use serde_json::Value;

use crate::{
    http::{Request, send},
    world::{World, repository},
};

/// Where the specification is committed.
const FILE: &str = "openapi/legation.json";
/// Says that the committed files are to be written anew.
const UPDATE: &str = "UPDATE_EXPECT";

/// Every `(METHOD, path)` that a specification has, in upper case.
fn operations(specification: &Value) -> BTreeSet<(String, String)> {
    let paths = specification["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())))
        .collect()
}

#[test]
fn the_committed_specification_is_the_one_the_code_makes() {
    let (path, made) = (repository(FILE), specification().unwrap());
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = made.lines().zip(committed.lines()).position(|(made, committed)| made != committed);
    assert!(
        made == committed,
        "{FILE} is not what the code makes (first line that differs: {:?}); look at the change, then run the test with {UPDATE}=1",
        differs.map(|line| line + 1)
    );
}

#[test]
fn every_route_of_the_manager_is_specified() {
    // The routes as the router's source has them: a router cannot be asked for them.
    let source = std::fs::read_to_string(repository("crates/legation-manager/src/api.rs")).unwrap();
    let router = source.split("fn router(").nth(1).unwrap().split("\n}\n").next().unwrap();
    let mut routes = BTreeSet::new();
    for route in router.split(".route(").skip(1) {
        let mut quoted = route.split('"');
        let path = quoted.nth(1).unwrap().to_owned();
        let handlers = quoted.next().unwrap();
        for method in ["get", "post", "put", "head", "delete", "patch"] {
            if [format!(" {method}("), format!(".{method}(")].iter().any(|word| handlers.contains(word)) {
                routes.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    // The specification does not describe itself.
    assert!(routes.remove(&("GET".to_owned(), "/v1/openapi.json".to_owned())), "{routes:?}");
    let specified = operations(&serde_json::from_str(&specification().unwrap()).unwrap());
    assert_eq!(routes, specified);
}

#[tokio::test]
async fn the_manager_serves_what_it_specifies() {
    let mut world = World::new(&[]);
    world.start().await;
    let api = world.deployment().addresses.api;
    let served = send(api, Request::get("/v1/openapi.json")).await;
    assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
    assert_eq!(served.text(), specification().unwrap());
    let token = world.home().config.token;
    for (method, path) in operations(&served.json()) {
        let path = path.replace("{id}", &"0".repeat(64)).replace("{digest}", &"0".repeat(64));
        let bare = send(api, Request::new(&method, &path)).await;
        assert_eq!(bare.status, 401, "{method} {path} without a token");
        let known = send(api, Request::new(&method, &path).token(&token)).await;
        assert!(!matches!(known.status, 401 | 405 | 500..), "{method} {path}: {}", known.status);
        // Whatever is refused is refused with a problem document.
        if known.status >= 400 && method != "HEAD" {
            assert_eq!(known.header("content-type"), Some("application/problem+json"), "{method} {path}");
            let problem = known.json();
            for field in ["type", "title", "status", "detail", "check"] {
                assert!(!problem[field].is_null(), "{method} {path}: {problem}");
            }
        }
    }
    let nowhere = send(api, Request::get("/v2/pool").token(&token)).await;
    assert_eq!((nowhere.status, nowhere.json()["check"].as_str()), (404, Some("api.path")));
    let wrong = send(api, Request::new("DELETE", "/v1/tasks").token(&token)).await;
    assert_eq!(wrong.status, 405);
    // Health and numbers are elsewhere, and without tokens.
    let admin = world.deployment().addresses.admin;
    assert_eq!(send(admin, Request::get("/livez")).await.text(), "ok\n");
    let ready = send(admin, Request::get("/readyz")).await.text();
    assert!(ready.starts_with("ok term=1 seq=") && ready.contains(" enclaves=0 verifiers=1\n"), "{ready}");
    let metrics = send(admin, Request::get("/metrics")).await.text();
    assert!(metrics.contains("legation_manager_journal_records_total 2"), "{metrics}");
    assert_eq!(send(api, Request::get("/metrics")).await.status, 404);
    assert_eq!(send(admin, Request::get("/v1/pool").token(&token)).await.status, 404);
}
