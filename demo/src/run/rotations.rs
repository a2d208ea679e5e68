//! Keys that are rotated while clients move about.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use control::{
    api::{News, RoutingView},
    fleet::Phase,
};
use tokio::{sync::mpsc, time};

use super::{DemoError, PATIENCE};
use crate::system::System;

/// How often it is looked how far a rotation has come.
const LOOK: Duration = Duration::from_millis(100);

/// Rotates keys so many times, spread over the time until `deadline`, and tells what happens. Returns how
/// many rotations came as far as that all nodes issue by the new configuration.
pub(super) async fn rotate(
    system: Arc<System>,
    times: u8,
    deadline: Instant,
    told: mpsc::Sender<String>,
) -> Result<u8, DemoError> {
    let begin = Instant::now();
    let pause = deadline.saturating_duration_since(begin) / (u32::from(times) + 1);
    let mut news = News::default();
    let mut done = 0;
    for number in 1..=times {
        let due = begin + pause * u32::from(number);
        watch(&system, &mut news, &told, due, |_| false).await?;
        let view = system.rotate().await?;
        let (Some(new), Some(former)) = (view.published(), view.issuing) else { break };
        let _unheard = told.send(format!("rotation {number} of {times}: {former} to {new}")).await;
        // Others may still be retiring: what matters is that nobody issues by the former any more.
        let end = Instant::now() + PATIENCE;
        let is_done = |view: &RoutingView| !matches!(view.phase(former), Some(Phase::Issuing));
        if !watch(&system, &mut news, &told, end, is_done).await? {
            let view = system.routing().await?;
            let _unheard = told.send(format!("it waits: {}", view.waiting.join("; "))).await;
            break;
        }
        done = number;
    }
    watch(&system, &mut news, &told, deadline, |_| false).await?;
    Ok(done)
}

/// Tells what is new until something holds, or until it is time; whether it holds.
async fn watch(
    system: &System,
    news: &mut News,
    told: &mpsc::Sender<String>,
    until: Instant,
    holds: impl Fn(&RoutingView) -> bool,
) -> Result<bool, DemoError> {
    loop {
        let view = system.routing().await?;
        for sentence in news.of(&view) {
            let _unheard = told.send(sentence).await;
        }
        if holds(&view) {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        time::sleep(LOOK).await;
    }
}
