//! The fixes of this kernel, whoever has loaded them.

use std::io::ErrorKind;
use std::time::SystemTime;

use aya::maps::{Array, Map, MapData, MapError, MapInfo, PerCpuArray};
use aya::programs::{ProgramInfo, loaded_programs};

use crate::{COUNTS, Error, FLOWS, LEARNER, STATE, State};

const LOOKING: &str = "looking at the BPF programs";

/// What became of answers: sums over all processors. As `enum counter`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers, and connections, whose source the fix has set.
    pub corrected: u64,
    /// Those whose program had chosen a source itself.
    pub chosen: u64,
    /// To a peer that has not asked, or whose request is no longer remembered: the kernel chose.
    pub unknown: u64,
    /// The host has lost the address that was asked: the kernel chose.
    pub stale: u64,
    /// Flows that were learned.
    pub learned: u64,
}

/// A fix that is loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What its marks have.
    pub slot: u8,
    /// What its routing tables have.
    pub instance: u16,
    /// The inode of its cgroup; 0 before it is attached.
    pub cgroup: u64,
    /// The process that loaded it, in its own PID namespace.
    pub owner: u32,
    /// How many flows it remembers.
    pub flows: u32,
    /// When it was loaded.
    pub since: Option<SystemTime>,
    /// Its counters.
    pub counts: Counts,
    /// The number of a map that nobody but its owner holds (`map_id` in `proc_pid_fdinfo(5)`).
    pub map: u32,
}

impl Loaded {
    /// Ask its owner to end it.
    ///
    /// # Errors
    /// It has ended, or may not be written.
    pub fn ask_to_leave(&self) -> Result<(), Error> {
        let mut state: Array<MapData, u64> = Map::Array(MapData::from_id(self.map)?).try_into()?;
        Ok(state.set(State::Leave as u32, 1, 0)?)
    }
}

/// Every fix of this kernel.
///
/// # Errors
/// No permission to look, or the kernel cannot.
pub fn loaded() -> Result<Vec<Loaded>, Error> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        let program = program.map_err(|error| Error::of(&error, LOOKING));
        match program.and_then(|program| look_at(&program)) {
            Ok(fix) => found.extend(fix),
            // Programs and maps come and go while we look, and others may be called as ours are.
            Err(Error::Refused { error, .. }) if error.kind() == ErrorKind::NotFound => {}
            Err(Error::Object | Error::Loader(_)) => {}
            // One that is there and not seen would be taken for dead, and its rules for left behind.
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn look_at(program: &ProgramInfo) -> Result<Option<Loaded>, Error> {
    if program.name() != LEARNER.as_bytes() {
        return Ok(None);
    }
    let refused = |error: MapError| Error::of(&error, LOOKING);
    let ids = program.map_ids().map_err(|error| Error::of(&error, LOOKING))?.ok_or(Error::Object)?;
    let maps: Vec<_> = ids.into_iter().map(MapInfo::from_id).collect::<Result<_, _>>().map_err(refused)?;
    let find = |name: &str| maps.iter().find(|map| map.name() == name.as_bytes()).ok_or(Error::Object);
    let (state, flows, counts) = (find(STATE)?, find(FLOWS)?, find(COUNTS)?);
    let id = state.id();
    let open = |map: &MapInfo| MapData::from_id(map.id()).map_err(refused);
    let state: Array<MapData, u64> = Map::Array(open(state)?).try_into()?;
    let counts: PerCpuArray<MapData, u64> = Map::PerCpuArray(open(counts)?).try_into()?;
    let read = |which: State| state.get(&(which as u32), 0).map_err(refused);
    let sum = |which: u32| Ok::<u64, Error>(counts.get(&which, 0).map_err(refused)?.iter().sum());
    Ok(Some(Loaded {
        slot: read(State::Slot)?.try_into().map_err(|_| Error::Object)?,
        instance: read(State::Instance)?.try_into().map_err(|_| Error::Object)?,
        cgroup: read(State::Cgroup)?,
        owner: read(State::Owner)?.try_into().map_err(|_| Error::Object)?,
        flows: flows.max_entries(),
        since: program.loaded_at(),
        counts: Counts {
            corrected: sum(0)?,
            chosen: sum(1)?,
            unknown: sum(2)?,
            stale: sum(3)?,
            learned: sum(4)?,
        },
        map: id,
    }))
}
