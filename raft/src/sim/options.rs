//! How rough the world is. Times are in simulated milliseconds; chances are per mille.

use crate::config::Config;

/// The world of one simulation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Members that may exist, ids `1..=members`.
    pub members: u64,
    /// Of those, the first so many are voters at the beginning.
    pub voters: u64,
    /// The members' options; `id`, `seed` and `applied` are filled in.
    pub config: Config,
    /// Milliseconds of faults and work before everything is healed.
    pub chaos_ms: u64,
    /// Milliseconds within which a healed cluster must converge.
    pub heal_ms: u64,
    /// One tick of an exact clock.
    pub tick_ms: u64,
    /// Clocks run this much too fast or too slow at most.
    pub skew_per_mille: u64,
    /// A message is lost.
    pub drop: u64,
    /// A message arrives twice.
    pub duplicate: u64,
    /// A message is held back for up to `late_ms`, past restarts.
    pub late: u64,
    /// How long.
    pub late_ms: u64,
    /// Ordinary messages take 1 to this; they overtake each other.
    pub delay_ms: u64,
    /// A sync takes 1 to this.
    pub sync_ms: u64,
    /// A sync hangs for twenty times as long.
    pub stuck: u64,
    /// Applying a batch takes 1 to this.
    pub apply_ms: u64,
    /// Entries further back than this answer *pending*.
    pub hot_entries: u64,
    /// Milliseconds between two things that the world does (a fault or a request).
    pub action_ms: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            members: 5,
            voters: 3,
            config: Config { election_ticks: 10, heartbeat_ticks: 2, ..Config::default() },
            chaos_ms: 20_000,
            heal_ms: 60_000,
            tick_ms: 10,
            skew_per_mille: 100,
            drop: 20,
            duplicate: 20,
            late: 10,
            late_ms: 3_000,
            delay_ms: 12,
            sync_ms: 8,
            stuck: 10,
            apply_ms: 8,
            hot_entries: 12,
            action_ms: 12,
        }
    }
}

impl Options {
    /// A world drawn from `seed`: calm or rough, small or large, with one or another set of protocol options.
    pub fn from_seed(seed: u64) -> Options {
        let mut rng = super::Rng::new(seed ^ 0xC0FF_EE00);
        let mut options = Options::default();
        options.voters = [1, 2, 3, 3, 3, 4, 5][rng.below(7) as usize];
        options.members = options.voters.max(3) + rng.below(3);
        options.drop = [0, 5, 20, 60, 120][rng.below(5) as usize];
        options.duplicate = [0, 20, 100][rng.below(3) as usize];
        options.late = [0, 10, 40][rng.below(3) as usize];
        options.delay_ms = [3, 12, 40][rng.below(3) as usize];
        options.sync_ms = [2, 8, 30][rng.below(3) as usize];
        options.stuck = [0, 10, 50][rng.below(3) as usize];
        options.apply_ms = [1, 8, 30][rng.below(3) as usize];
        options.hot_entries = [4, 12, u64::MAX][rng.below(3) as usize];
        let config = &mut options.config;
        config.pre_vote = rng.chance(700);
        config.check_quorum = rng.chance(700);
        config.step_down_on_removal = rng.chance(700);
        config.max_append_bytes = [0, 60, 1 << 20][rng.below(3) as usize];
        config.max_inflight_messages = [1, 4, 256][rng.below(3) as usize];
        config.max_applying_bytes = [1, 200, 1 << 20][rng.below(3) as usize];
        config.max_uncommitted_bytes = [0, 500][rng.below(2) as usize];
        if rng.chance(250) {
            config.pacing = crate::Pacing::Stepwise;
            // Step by step as in etcd, only a pre-vote tells old leaders and candidates of the newer term.
            config.pre_vote = true;
        }
        if config.check_quorum && rng.chance(400) {
            // 1.1 / 0.9 over ten ticks is a drift of less than three.
            config.reads = crate::ReadMode::Lease { max_drift_ticks: 3 };
        }
        options
    }
}
