//! Hostile logs: the fuzzer's corpus and what comes of it by changes.

#[path = "../../../fuzz/bodies/strace.rs"]
mod body;
#[path = "../../../fuzz/bodies/changes.rs"]
mod changes;

use std::path::Path;

#[test]
fn changed_logs_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/strace");
    assert!(changes::over(&corpus, 300, body::run) > 10);
}
