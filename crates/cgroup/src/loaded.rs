//! The fixes of this kernel, whoever has loaded them.

use std::time::SystemTime;

use aya::maps::{Array, Map, MapData, MapInfo, PerCpuArray};
use aya::programs::{ProgramInfo, loaded_programs};

use crate::{COUNTS, Error, FLOWS, LEARNER, STATE, State};

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
/// No permission to look.
pub fn loaded() -> Result<Vec<Loaded>, Error> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        // Programs and maps come and go while we look.
        match program.map_err(Error::from) {
            Ok(program) if program.name() == LEARNER.as_bytes() => found.extend(look_at(&program)),
            Err(Error::Permission(error)) => return Err(Error::Permission(error)),
            _ => {}
        }
    }
    Ok(found)
}

fn look_at(program: &ProgramInfo) -> Option<Loaded> {
    let maps = program.map_ids().ok()??;
    let find = |name: &str| {
        let info = maps.iter().filter_map(|&id| MapInfo::from_id(id).ok());
        info.into_iter().find(|info| info.name() == name.as_bytes())
    };
    let (state, flows, counts) = (find(STATE)?, find(FLOWS)?, find(COUNTS)?);
    let id = state.id();
    let state: Array<MapData, u64> = Map::Array(MapData::from_id(id).ok()?).try_into().ok()?;
    let counts: PerCpuArray<MapData, u64> =
        Map::PerCpuArray(MapData::from_id(counts.id()).ok()?).try_into().ok()?;
    let read = |which: State| state.get(&(which as u32), 0).ok();
    let sum = |which: u32| counts.get(&which, 0).ok().map(|values| values.iter().sum());
    Some(Loaded {
        slot: read(State::Slot)?.try_into().ok()?,
        instance: read(State::Instance)?.try_into().ok()?,
        cgroup: read(State::Cgroup)?,
        owner: read(State::Owner)?.try_into().ok()?,
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
    })
}
