//! A range request: limit, filters, order and count exactly as etcd combines them.

use crate::encoding::Fields;
use crate::error::Fault;
use crate::index::{Entry, Iter};
use crate::planted::{Bug, planted};
use crate::rest::Rest;
use crate::types::{KeyRange, KeyValue, Query, RangeResult, SortOrder, SortTarget};
use crate::version::{Lent, Snapshot, Version, key_only};

/// How a query wants its answer ordered, after etcd's rules for what is left unsaid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As stored.
    Key,
    KeyDescending,
    By(SortTarget, SortOrder),
}

fn order(query: &Query) -> Order {
    match query.sort {
        None | Some((SortTarget::Key, SortOrder::None | SortOrder::Ascend)) => Order::Key,
        Some((SortTarget::Key, SortOrder::Descend)) => Order::KeyDescending,
        Some((target, order)) => Order::By(target, order),
    }
}

/// Answers `query` at the snapshot's revision; the caller fills in the header's revision.
pub(crate) fn range(snapshot: &Snapshot<'_>, query: &Query) -> Result<RangeResult, Fault> {
    let mut kvs = Vec::new();
    let mut result = visit(snapshot, query, |lent| kvs.push(KeyValue::trusted(lent.share())))?;
    result.kvs = kvs;
    Ok(result)
}

/// As [`range`], but the key-values are lent to `f` one after the other.
pub(crate) fn visit(
    snapshot: &Snapshot<'_>,
    query: &Query,
    mut f: impl FnMut(Lent<'_>),
) -> Result<RangeResult, Fault> {
    if query.count_only {
        let count = snapshot.count(&query.range)?;
        return Ok(RangeResult { count, ..RangeResult::default() });
    }
    let order = order(query);
    if query.has_filters() || matches!(order, Order::By(..)) {
        let mut result = sorted(snapshot, query, order)?;
        std::mem::take(&mut result.kvs).into_iter().for_each(|kv| f(Lent::Own(kv.into_wire())));
        return Ok(result);
    }
    stored(snapshot, query, order == Order::KeyDescending, f)
}

/// An answer in the order of keys, handed on as it is found.
fn stored(
    snapshot: &Snapshot<'_>,
    query: &Query,
    backwards: bool,
    f: impl FnMut(Lent<'_>),
) -> Result<RangeResult, Fault> {
    let limit = if query.limit == 0 { u64::MAX } else { query.limit };
    let mut page = Page { snapshot, keys_only: query.keys_only, left: limit, more: false, f };
    match &query.range {
        KeyRange::Single(key) => page.take(snapshot.root.tree.get(key).map(|head| (&key[..], head)))?,
        KeyRange::Span { start, end } if backwards => {
            let entries = snapshot.root.tree.iter_back_from(end.as_deref());
            page.take(entries.take_while(|(key, _)| *key >= &start[..]))?;
        }
        range => page.take_range(snapshot.root.tree.iter(range))?,
    }
    // What was gone through whole has been counted by it.
    let count = if page.more { snapshot.count(&query.range)? } else { limit - page.left };
    Ok(RangeResult { count, more: page.more, ..RangeResult::default() })
}

/// Up to `limit` key-values of `range` in the order of keys; whether there are more.
pub(crate) fn page(
    snapshot: &Snapshot<'_>,
    range: &KeyRange,
    limit: u64,
    keys_only: bool,
    f: impl FnMut(Lent<'_>),
) -> Result<bool, Fault> {
    let mut page = Page { snapshot, keys_only, left: limit, more: false, f };
    page.take_range(snapshot.root.tree.iter(range))?;
    Ok(page.more)
}

/// A page in the making.
struct Page<'a, F> {
    snapshot: &'a Snapshot<'a>,
    keys_only: bool,
    /// So many more fit.
    left: u64,
    /// Something was left out.
    more: bool,
    f: F,
}

impl<F: FnMut(Lent<'_>)> Page<'_, F> {
    /// Entries whose records are sought together.
    const BATCH: usize = 32;

    fn take<'e>(&mut self, entries: impl IntoIterator<Item = (&'e [u8], Entry<'e>)>) -> Result<(), Fault> {
        let mut entries = entries.into_iter();
        let mut batch = Vec::new();
        loop {
            batch.clear();
            let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).saturating_add(1);
            batch.extend(entries.by_ref().take(wanted.min(Self::BATCH)));
            if batch.is_empty() || !self.take_batch(&batch)? {
                return Ok(());
            }
            self.snapshot.rest().now();
        }
    }

    /// Takes entries in ascending order.
    fn take_range(&mut self, mut entries: Iter<'_>) -> Result<(), Fault> {
        if self.keys_only || !self.snapshot.is_newest() {
            return self.take(entries);
        }
        // A leaf at a time, and of it nothing but the places.
        while let Some(run) = entries.next_run() {
            let (lent, more) = self.snapshot.lend_run(&run, self.left, &mut self.f)?;
            self.left -= lent;
            if more {
                self.more = true;
                break;
            }
            self.snapshot.rest().now();
        }
        Ok(())
    }

    /// Takes some entries; whether there is room for more.
    fn take_batch(&mut self, entries: &[(&[u8], Entry<'_>)]) -> Result<bool, Fault> {
        if !self.keys_only && entries.len() > 1 {
            let newest = entries.iter().filter(|(_, head)| head.is_live() && self.snapshot.answers(head));
            self.snapshot.expect(newest.map(|(_, entry)| entry));
        }
        for &(key, head) in entries {
            let before = if self.snapshot.answers(&head) {
                if !head.is_live() {
                    continue;
                }
                None
            } else {
                let Some(change) = self.snapshot.before(head)? else { continue };
                Some(change)
            };
            if self.left == 0 {
                self.more = true;
                return Ok(false);
            }
            self.left -= 1;
            match before {
                Some(change) if self.keys_only => {
                    let fields = change.fields();
                    let main = change.revision.main;
                    self.lend_key(&key_only(key, main, fields.create_revision, fields.version));
                }
                Some(change) => (self.f)(Lent::Own(change.wire)),
                None if self.keys_only => {
                    self.lend_key(&key_only(key, head.revision.main, head.create_revision, head.version));
                }
                None => self.snapshot.lend(&head, &mut self.f)?,
            }
        }
        Ok(true)
    }

    fn lend_key(&mut self, fields: &Fields<'_>) {
        (self.f)(Lent::Own(KeyValue::encode(fields).into_wire()));
    }
}

/// An answer that is filtered or sorted: everything is found before anything can be handed on.
fn sorted(snapshot: &Snapshot<'_>, query: &Query, order: Order) -> Result<RangeResult, Fault> {
    let mut result = RangeResult::default();
    // etcd applies the limit while it fetches unless it has to filter or to sort by an order that was asked for; then
    // one key-value more than the limit is fetched, to know whether there is more.
    let sorts = matches!(order, Order::By(_, SortOrder::Ascend | SortOrder::Descend));
    let fetch_all = query.limit == 0 || (query.has_filters() && !planted(Bug::LimitBeforeFilters)) || sorts;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let fetch = if fetch_all { usize::MAX } else { limit.saturating_add(1) };

    let mut versions = fetch_versions(snapshot, &query.range, fetch, order == Order::KeyDescending)?;
    // What was fetched whole has been counted by it.
    result.count =
        if versions.len() < fetch { versions.len() as u64 } else { snapshot.count(&query.range)? };
    if query.has_filters() {
        versions.retain(|version| query.passes(version.create_revision, version.revision.main));
    }
    if let Order::By(target, order) = order {
        sort(snapshot, &mut versions, target, order)?;
    }
    if query.limit > 0 && versions.len() > limit {
        versions.truncate(limit);
        result.more = true;
    }
    result.kvs = key_values(snapshot, query, versions)?;
    Ok(result)
}

fn fetch_versions(
    snapshot: &Snapshot<'_>,
    range: &KeyRange,
    limit: usize,
    backwards: bool,
) -> Result<Vec<Version>, Fault> {
    let mut versions = Vec::new();
    let (tree, rest) = (&snapshot.root.tree, snapshot.rest());
    if let KeyRange::Single(key) = range {
        if let Some(head) = tree.get(key) {
            versions.extend(snapshot.visible(key, head)?);
        }
    } else if backwards {
        let KeyRange::Span { start, end } = range else { return Ok(versions) };
        let entries = tree.iter_back_from(end.as_deref()).take_while(|(key, _)| *key >= &start[..]);
        for (key, head) in rest.among(entries) {
            if versions.len() >= limit {
                break;
            }
            versions.extend(snapshot.visible(key, head)?);
        }
    } else {
        for (key, head) in rest.among(tree.iter(range)) {
            if versions.len() >= limit {
                break;
            }
            versions.extend(snapshot.visible(key, head)?);
        }
    }
    Ok(versions)
}

fn sort(
    snapshot: &Snapshot<'_>,
    versions: &mut Vec<Version>,
    target: SortTarget,
    order: SortOrder,
) -> Result<(), Fault> {
    let (descending, rest) = (order == SortOrder::Descend, snapshot.rest());
    match target {
        SortTarget::Value => {
            let mut valued = Vec::with_capacity(versions.len());
            for mut version in rest.among(std::mem::take(versions)) {
                let key_value = snapshot.key_value(version.clone())?;
                version.wire = Some(key_value.as_wire().clone());
                valued.push((key_value.value(), version));
            }
            sort_by(&mut valued, descending, rest, |(value, _)| value);
            versions.extend(valued.into_iter().map(|(_, version)| version));
        }
        SortTarget::Key => {} // as fetched
        SortTarget::Version => sort_by(versions, descending, rest, |version| &version.version),
        SortTarget::Create => sort_by(versions, descending, rest, |version| &version.create_revision),
        SortTarget::Mod => sort_by(versions, descending, rest, |version| &version.revision.main),
    }
    Ok(())
}

/// A stable sort in either direction: equal ones stay in the order of keys.
fn sort_by<T, K: Ord>(items: &mut [T], descending: bool, rest: Rest, by: impl Fn(&T) -> &K) {
    let mut done = rest.at_times();
    items.sort_by(|a, b| {
        done();
        if descending { by(b).cmp(by(a)) } else { by(a).cmp(by(b)) }
    });
}

fn key_values(
    snapshot: &Snapshot<'_>,
    query: &Query,
    versions: Vec<Version>,
) -> Result<Vec<KeyValue>, Fault> {
    // Sorted by value, etcd has read the records anyway: the answer then still has the lease.
    let by_value = matches!(query.sort, Some((SortTarget::Value, _)));
    let mut kvs = Vec::with_capacity(versions.len());
    for version in snapshot.rest().among(versions) {
        kvs.push(match (query.keys_only, by_value) {
            (false, _) => snapshot.key_value(version)?,
            (true, false) => version.key_only(),
            (true, true) => {
                let whole = snapshot.key_value(version)?;
                KeyValue::encode(&Fields { value: &[], ..whole.fields() })
            }
        });
    }
    Ok(kvs)
}
