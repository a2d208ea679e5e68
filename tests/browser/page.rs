//! The page that the browser opens.

use std::net::{Ipv4Addr, SocketAddr};

use axum::{Router, response::Html, routing::get};
use tokio::net::TcpListener;

/// Serves the page on loopback, which browsers trust with a camera, for as long as the test runs.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("bound");
    let router = Router::new().route("/", get(async || Html(include_str!("page.html"))));
    tokio::spawn(async { axum::serve(listener, router).await });
    address
}
