//! A vendor as a test plays it: answers what it was told to, and writes down exactly what it was asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::Response,
};

use crate::world::{listen, url};

/// What it answers.
#[derive(Clone)]
pub(crate) struct Say {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Say {
    pub(crate) fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What it was asked: method and path with query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Vendor {
    says: Arc<Mutex<BTreeMap<String, Say>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Vendor {
    pub(crate) async fn start(self) -> String {
        url(listen(Router::new().fallback(handle).with_state(self)).await)
    }

    /// Answers a path with its query like this from now on.
    pub(crate) fn say(&self, path: &str, say: Say) -> &Self {
        self.says.lock().unwrap().insert(path.to_owned(), say);
        self
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|a| a.line).collect()
    }
}

async fn handle(State(vendor): State<Vendor>, request: Request) -> Response {
    let path = request.uri().path_and_query().unwrap().to_string();
    let mut headers: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
    headers.sort();
    vendor.asked.lock().unwrap().push(Asked { line: format!("{} {path}", request.method()), headers });
    let say = vendor.says.lock().unwrap().get(&path).cloned().unwrap_or_else(|| Say::status(404));
    let mut response = Response::builder().status(StatusCode::from_u16(say.status).unwrap());
    for (name, value) in &say.headers {
        response = response.header(name, value);
    }
    response.header(header::CONTENT_TYPE, "application/octet-stream").body(Body::from(say.body)).unwrap()
}

/// Percent-encodes as vendors do in headers: everything but letters and digits.
pub(crate) fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
