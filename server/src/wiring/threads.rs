//! The member's own threads; `wiring`'s table says who talks to whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ketch_wal::RealDisk;
use tokio::runtime::Handle;

use crate::api::watch::Watches;
use crate::config::Config;
use crate::consensus::shell::Driver;
use crate::deliver;
use crate::quota::Reserve;
use crate::upkeep::Upkeep;

/// Starts them all.
///
/// # Errors
/// The system has no thread left.
pub(super) fn start(
    driver: &Arc<Driver>,
    watches: &Arc<Watches>,
    config: &Config,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<JoinHandle<()>>, String> {
    let dirs = std::iter::once(&config.data_dir).chain(&config.wal_dir).cloned().collect();
    let reserve = Reserve::new(Arc::new(RealDisk), dirs);
    let upkeep =
        Upkeep::new(Arc::clone(driver), config.snapshot_count, config.snapshot_catchup_entries, reserve);
    let (drive, fetcher, ticker) = (Arc::clone(driver), Arc::clone(driver), Arc::clone(driver));
    let (stop_tick, stop_upkeep) = (Arc::clone(stop), Arc::clone(stop));
    let (deliverer, watches, stop_deliver) = (Arc::clone(driver), Arc::clone(watches), Arc::clone(stop));
    let (interval, requests) = (config.heartbeat_interval, Handle::current());
    Ok(vec![
        spawn("ketch-drive", move || drive.drive())?,
        spawn("ketch-fetch", move || fetcher.fetch())?,
        spawn("ketch-tick", move || tick(&ticker, &requests, interval, &stop_tick))?,
        spawn("ketch-upkeep", move || upkeep.run(&stop_upkeep))?,
        spawn("ketch-watch", move || deliver::run(&watches, &deliverer, &stop_deliver))?,
    ])
}

/// Ticks, and wakes one of the request threads. One of them waits for the sockets on behalf of all; if what comes makes it the
/// applier of something long, the others would sleep on, and nobody would hear the clients meanwhile.
fn tick(driver: &Driver, requests: &Handle, interval: Duration, stop: &AtomicBool) {
    let mut next = Instant::now() + interval;
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if now < next {
            std::thread::park_timeout(next - now);
            continue;
        }
        drop(requests.spawn(async {}));
        driver.tick();
        // A process that was paused does not catch up on the ticks it missed.
        next = (next + interval).max(now);
    }
}

fn spawn(name: &str, life: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(life).map_err(|error| format!("cannot start the thread {name}: {error}"))
}
