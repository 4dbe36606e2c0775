//! A test a sentence: what the raft paper (Ongaro, Ousterhout: *In Search of an Understandable Consensus Algorithm*)
//! demands in §5 to §8 and Ongaro's thesis in the chapters on membership, transfer, pre-vote and reads, in our words, and
//! what shows it: transcripts (names), or tests and simulation (paths). The table in `tests/transcripts/README.md` is
//! made of this; `KETCH_REWRITE=1` rewrites it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ketch_raft::sim::{Journal, Options, Simulation};
use ketch_raft::{Config, MemoryStorage, Node, Role};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn shown_by(transcript: &str) {
    crate::transcripts::play(&folder().join(format!("{transcript}.txt"))).unwrap();
}

/// Section by section: `test: "sentence" => transcripts, then functions`.
macro_rules! sentences {
    ($($section:ident $title:literal { $($test:ident: $sentence:literal => [$($shown:literal)*] [$($also:path)*];)* })*) => {
        $(mod $section {
            $(
                #[doc = $sentence]
                #[test]
                fn $test() {
                    $(super::shown_by($shown);)*
                    $($also();)*
                }
            )*
        })*

        /// (section, test, sentence, transcripts, functions)
        const PLAN: &[(&str, &str, &[(&str, &str, &[&str], &[&str])])] = &[
            $((stringify!($section), $title, &[
                $((stringify!($test), $sentence, &[$($shown),*], &[$(stringify!($also)),*])),*
            ])),*
        ];
    };
}

sentences! {
    rules "Rules for all members (§5.1, figure 2)" {
        a_newer_term_is_taken_over:
            "Whoever hears of a newer term takes it; a leader or candidate of an older one follows."
            => ["election_newer_term_beats_longer_log" "message_of_an_old_term_is_ignored"] [];
        an_older_term_is_turned_away:
            "Requests of an older term are turned away, and their sender is told the newer one."
            => ["message_of_an_old_term_is_ignored" "election_old_candidate_learns_the_term"] [];
        committed_entries_are_applied_in_order:
            "What is committed is applied, in the order of the log, each entry once."
            => ["apply_batches_in_order" "apply_limited_by_bytes" "replication_follower_applies_in_order"] [];
        term_vote_and_log_are_kept:
            "Term, vote and log survive a restart."
            => ["crash_vote_is_kept" "crash_everybody"] [];
        answers_wait_for_the_disk:
            "They are written before an answer that rests on them leaves."
            => ["election_grant_waits_for_the_disk" "replication_own_ack_counts_when_durable" "apply_waits_for_the_own_disk"] [];
        commit_may_be_forgotten:
            "The commit index need not be kept: it is learned again."
            => ["crash_commit_is_learned_again" "commit_only_needs_no_sync" "crash_unsynced_entries_are_lost"] [];
        requests_reach_the_leader:
            "A follower passes requests of clients on to the leader, or says that there is none."
            => ["propose_forwarded" "propose_forwarded_together" "propose_forwarding_off" "propose_no_leader" "read_of_a_follower" "read_no_leader"] [];
    }
    elections "Elections (§5.2)" {
        a_leader_heard_of_is_followed:
            "A follower stays one as long as it hears from its leader."
            => ["election_heartbeats_hold_it_back"] [];
        silence_starts_an_election:
            "Without a leader for an election timeout it campaigns."
            => ["election_timeout_starts_one"] [];
        a_candidate_votes_for_itself_and_asks_all:
            "A candidate raises its term, votes for itself and asks all other voters."
            => ["election_three" "election_votes_wait_for_the_disk"] [];
        a_majority_wins:
            "A majority of the voters makes it leader; one alone is a majority of one."
            => ["election_three" "election_sole_voter"] [];
        one_vote_a_term:
            "A voter votes once a term, first come, first served, also over a restart."
            => ["election_one_vote_a_term" "crash_vote_is_kept"] [];
        the_winner_says_so_at_once:
            "The winner makes itself heard at once, so that nobody else campaigns."
            => ["election_three"] [];
        a_candidate_follows_the_winner_of_its_term:
            "A candidate that hears from the leader of its own term follows it."
            => ["election_candidate_follows_the_winner"] [];
        a_candidate_ignores_an_older_leader:
            "One that hears from a leader of an older term turns it away and goes on."
            => ["election_candidate_ignores_an_old_leader"] [];
        a_split_vote_is_tried_again:
            "When nobody wins, another election follows in a newer term."
            => ["election_split_is_tried_again"] [];
        timeouts_are_drawn_anew:
            "Timeouts are drawn from an interval, each time and for each member anew."
            => [] [crate::sentences::timeouts];
        a_leader_does_not_campaign:
            "A leader does not campaign, and no learner does."
            => ["election_already_leader" "election_learner_cannot_campaign"] [];
    }
    replication "Replication (§5.3)" {
        committed_once_a_majority_holds_it:
            "The leader appends and sends to all at once; an entry is committed when a majority holds it."
            => ["replication_own_disk_in_parallel" "replication_gathers_proposals" "replication_stepwise_sends_each"] [];
        appends_are_repeated_for_ever:
            "Appends are repeated until every follower has everything."
            => ["replication_leader_repeats_until_heard" "replication_lost_append_recovers_by_heartbeat" "replication_unreachable_probes"] [];
        followers_learn_the_commit_index:
            "The commit index travels with appends and heartbeats."
            => ["replication_follower_applies_in_order" "replication_commit_rides_with_what_is_expected" "replication_slow_follower_hears_of_its_commit"] [];
        an_append_must_match_before_it:
            "An append is refused unless the entry before it is there, with its term."
            => ["replication_backs_off_by_term"] [];
        conflicts_give_way:
            "An entry that conflicts with the leader's gives way, and all after it."
            => ["replication_conflict_is_overwritten"] [];
        only_conflicts_give_way:
            "Nothing else is deleted: late and repeated appends do no harm."
            => ["replication_duplicate_append" "replication_reordered_appends"] [];
        a_refusal_names_where_to_try:
            "A refusal says where to try next, one round a term at most."
            => ["replication_backs_off_by_term"] [];
        sending_is_bounded:
            "What is under way to a follower is bounded, by messages and by bytes."
            => ["replication_window_full" "replication_batches_by_bytes"] [];
        a_leader_never_rewrites_its_log:
            "A leader never overwrites or deletes entries of its own log."
            => ["commit_only_of_the_own_term"] [];
    }
    safety "Safety (§5.4, §5.5)" {
        no_vote_for_a_less_complete_log:
            "No vote for a log less complete than the own: the term of the last entry decides, then the length."
            => ["election_longer_log_wins" "election_newer_term_beats_longer_log"] [];
        older_terms_are_committed_with_the_own:
            "Entries of older terms are committed only with one of the leader's own."
            => ["commit_only_of_the_own_term"] [];
        a_crashed_member_is_asked_again:
            "Requests to a member that is down are repeated, and those it had answered do no harm."
            => ["replication_leader_repeats_until_heard" "replication_duplicate_append"] [];
        histories_hold:
            "One leader a term, leaders complete, logs matching, one state machine (figure 3)."
            => [] [crate::sentences::histories];
    }
    membership "Membership (§6; thesis, §4)" {
        one_change_at_a_time:
            "§4.1: a change is taken only when the one before is applied."
            => ["member_change_pending"] [];
        a_change_takes_force:
            "§4.1: single changes keep majorities overlapping. (Here, as in etcd, a change takes force when it is applied; the old members commit it.)"
            => ["member_added" "member_change_takes_force_when_applied"] [];
        new_members_catch_up_without_a_vote:
            "§4.2.1: new members catch up before they vote."
            => ["member_added_as_learner_then_promoted"] [];
        a_removed_leader_steps_down:
            "§4.2.2: a leader that is removed steps down once that is committed, or stays if told so."
            => ["member_removed_leader_steps_down" "member_removed_leader_may_stay"] [];
        removed_members_do_not_disturb:
            "§4.2.3: who hears from a leader refuses votes."
            => ["checkquorum_lease_refuses_votes" "checkquorum_votes_after_the_lease"] [];
        somebody_outside_may_be_asked:
            "§4.2: a member grants votes to, and takes entries from, whoever it hears of, in its members or not."
            => ["election_learner_votes_when_asked" "member_added"] [];
        joint_needs_both_majorities:
            "§4.3: while joint, elections and commits need majorities of both groups."
            => ["member_joint_needs_both_majorities"] [];
        joint_is_left_by_a_second_entry:
            "§4.3: a second entry leaves the joint members, by itself or when asked."
            => ["member_joint_auto_leave" "member_joint_explicit" "member_demoted_waits_for_the_end_of_joint"] [];
        joint_is_left_even_after_a_failed_transfer:
            "§4.3: and it is proposed again if it was refused."
            => [] [crate::owners::a_joint_configuration_is_left_after_a_transfer_that_failed];
        several_at_once_go_joint:
            "§4.3: changes of more than one voter go through a joint configuration."
            => ["member_more_than_one_voter_goes_joint"] [];
        somebody_must_vote:
            "The last voter cannot be removed."
            => ["member_last_voter_stays"] [];
    }
    compaction "Snapshots (§7; thesis, §5)" {
        who_lags_behind_the_log_gets_a_snapshot:
            "A follower that the log no longer reaches gets a snapshot."
            => ["snapshot_for_a_lagging_member" "snapshot_failed_is_sent_again"] [];
        a_snapshot_replaces_the_log:
            "What it does not hold of it, a snapshot replaces, with the members; it is recorded, installed, then acknowledged."
            => ["snapshot_recorded_installed_acknowledged"] [];
        a_snapshot_of_a_prefix_deletes_nothing:
            "A snapshot of a prefix of the log leaves what follows."
            => ["snapshot_of_a_prefix_keeps_what_follows"] [];
        nothing_is_sent_meanwhile:
            "While a snapshot travels nothing else is sent."
            => ["snapshot_waiting_member_gets_no_appends"] [];
    }
    reads "Reads (§8; thesis, §6.4)" {
        a_leader_begins_with_an_empty_entry:
            "A new leader commits an entry of its term first."
            => ["election_three" "read_waits_for_a_commit_of_the_term"] [];
        no_read_before_that:
            "No read is served before it, not even by a sole voter."
            => ["read_waits_for_a_commit_of_the_term" "read_sole_voter_waits_for_its_commit"] [];
        a_read_needs_a_round_of_heartbeats:
            "A leader proves that it still leads by a round begun after the read came."
            => ["read_confirmed_by_a_round" "read_cut_off_leader_never_answers"] [];
        many_reads_share_a_round:
            "One round confirms all reads that wait for one."
            => ["read_many_in_one_round"] [];
        followers_ask_the_leader:
            "A follower asks the leader for the index and serves the read itself."
            => ["read_of_a_follower"] [];
        a_shrinking_quorum_confirms:
            "A round is answered by the quorum in force now."
            => [] [crate::leases::a_read_is_confirmed_when_the_quorum_shrinks_to_those_who_answered];
        leases_serve_at_once:
            "§6.4.1: within a lease, shortened by the drift of clocks, reads need no round."
            => ["read_by_lease" "read_lease_ends"] [];
        a_transfer_ends_the_lease:
            "§6.4.1: a transfer ends the lease before it lets another campaign."
            => ["read_lease_ends_with_a_transfer"] [];
        leases_survive_restarts:
            "§6.4.1: who supports a lease votes for nobody else within it, not after a restart, not in a newer term."
            => ["read_lease_survives_a_voters_restart"] [crate::leases::holds_for_votes_of_the_own_term crate::leases::outlives_a_crash_before_the_first_write];
        a_leader_with_a_lease_is_not_forgotten:
            "And does not forget its leader."
            => ["forget_leader_refused_with_leases"] [];
    }
    transfer "Leadership transfer (thesis, §3.10)" {
        no_proposals_meanwhile:
            "The leader stops taking proposals."
            => ["propose_refused_in_transfer"] [];
        the_target_is_brought_up_to_date:
            "It brings the target's log up to date."
            => ["transfer_waits_for_a_lagging_member"] [];
        the_target_campaigns_at_once:
            "It tells the target to campaign now; that wins with the next term."
            => ["transfer_to_a_complete_member" "transfer_wins_with_the_next_term"] [];
        voters_ignore_their_lease_for_it:
            "Voters answer it although they hear from a leader."
            => ["transfer_ignores_the_lease"] [];
        given_up_after_a_timeout:
            "After an election timeout without success the leader goes on."
            => ["transfer_given_up_after_a_timeout"] [];
        only_voters_can_lead:
            "It is refused for learners, strangers and the leader itself; a follower passes it on."
            => ["transfer_to_a_learner_refused" "transfer_to_a_stranger_refused" "transfer_to_itself_refused" "transfer_asked_of_a_follower"] [];
    }
    prevote "Pre-vote and check-quorum (thesis, §9.6, §6.2)" {
        asked_before_the_term_is_raised:
            "A candidate first asks whether it would win, without raising its term."
            => ["prevote_asks_before_raising_the_term"] [];
        granted_by_those_who_hear_of_no_leader:
            "Yes is said only to a complete log, and only by those who hear from no leader."
            => ["prevote_refused_in_lease" "prevote_refused_changes_nothing"] [];
        won_it_campaigns:
            "With a majority it raises its term and campaigns; a yes binds nobody."
            => ["prevote_won_then_campaigns"] [];
        a_returning_member_does_not_disturb:
            "So a member that was cut off does not depose the leader when it returns."
            => ["prevote_returning_member_does_not_disturb"] [];
        a_leader_without_a_quorum_steps_down:
            "A leader that hears from no majority for an election timeout steps down."
            => ["checkquorum_leader_steps_down"] [];
    }
}

/// Ticks until a lone member of a group of three campaigns, for a seed.
fn waits(seed: u64) -> u32 {
    let config = Config { id: 1, seed, election_ticks: 10, pre_vote: false, ..Config::default() };
    let mut node = Node::new(config, MemoryStorage::with_voters([1, 2, 3])).unwrap();
    let mut ticks = 0;
    while node.soft_state().role == Role::Follower {
        node.tick();
        ticks += 1;
    }
    ticks
}

fn timeouts() {
    let drawn: BTreeSet<u32> = (0..200).map(waits).collect();
    assert_eq!(drawn, (10..20).collect());
}

/// The simulator checks these after every step of everybody.
fn histories() {
    for seed in 100..108 {
        if let Err(failure) = Simulation::new(seed, Options::from_seed(seed), Journal::default()).run() {
            panic!("{failure}");
        }
    }
}

fn table() -> String {
    let mut table = String::new();
    for (section, title, sentences) in PLAN {
        let _ = writeln!(
            table,
            "## {title}\n\nTests `sentences::{section}::…`\n\n| sentence | test | shown by |\n| --- | --- | --- |"
        );
        for (test, sentence, transcripts, functions) in *sentences {
            let shown = transcripts.iter().chain(*functions).map(|name| format!("`{name}`"));
            let shown: Vec<String> = shown.map(|name| name.replace(' ', "")).collect();
            let _ = writeln!(table, "| {sentence} | `{test}` | {} |", shown.join(", "));
        }
        table.push('\n');
    }
    table.trim_end().to_string() + "\n"
}

#[test]
fn the_plan_is_what_is_tested() {
    let file = folder().join("README.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let head = page.split("\n## ").next().unwrap();
    let expected = format!("{}\n\n{}", head.trim_end(), table());
    if std::env::var_os("KETCH_REWRITE").is_some() {
        std::fs::write(file, expected).unwrap();
    } else {
        assert_eq!(page, expected, "run with KETCH_REWRITE=1");
    }
}
