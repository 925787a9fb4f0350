//! The times before the packets: `-t` to `-ttttt`, in micro- or nanoseconds.

use udpkit_capture::Clock;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
const HALF_DAY: u64 = DAY / 2;

/// A time as a line has it, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// Since the epoch: `-tt`, and `-tttt`, whose zone no line tells: UTC is assumed.
    Epoch(u64),
    /// Since midnight; or, where `relative`, perhaps since the packet before (`-ttt`) or the first
    /// (`-ttttt`).
    OfDay { ns: u64, relative: bool },
    /// Before the packet before or the first: `-00:00:00.5`.
    Before(u64),
}

/// `HH:MM:SS`, `HH:MM:SS.fraction`, the same after a minus, or `seconds.fraction`.
pub(crate) fn time(token: &[u8]) -> Option<Time> {
    let (&first, _) = token.split_first()?;
    if !first.is_ascii_digit() && first != b'-' {
        return None;
    }
    if token.get(2) == Some(&b':') {
        return Some(Time::OfDay { ns: of_day(token)?, relative: false });
    }
    if let Some(token) = token.strip_prefix(b"-") {
        return of_day(token).map(Time::Before);
    }
    let dot = token.iter().position(|&byte| byte == b'.')?;
    if !(9..=10).contains(&dot) {
        return None;
    }
    Some(Time::Epoch(digits(&token[..dot])? * SECOND + fraction(&token[dot + 1..])?))
}

/// `YYYY-MM-DD` (`-tttt`), or `MM/DD/YYYY` of tcpdump 3: nanoseconds from the epoch to that midnight, UTC.
pub(crate) fn date(token: &[u8]) -> Option<u64> {
    let (year, month, day) = match token {
        [year @ .., b'-', m1, m2, b'-', d1, d2] | [m1, m2, b'/', d1, d2, b'/', year @ ..] => {
            (year, [*m1, *m2], [*d1, *d2])
        }
        _ => return None,
    };
    if year.len() != 4 {
        return None;
    }
    let (year, month, day) = (digits(year)?, digits(&month)?, digits(&day)?);
    if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from 1970-01-01, counted in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * DAY)
}

fn of_day(token: &[u8]) -> Option<u64> {
    let (clock, rest) = token.split_first_chunk::<8>()?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (hours, minutes, seconds) = (digits(&[h1, h2])?, digits(&[m1, m2])?, digits(&[s1, s2])?);
    // A leap second is 60.
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    let fraction = if rest.is_empty() { 0 } else { fraction(rest.strip_prefix(b".")?)? };
    Some((hours * 3600 + minutes * 60 + seconds) * SECOND + fraction)
}

/// Digits behind the point, as nanoseconds.
fn fraction(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    let missing = 9 - u32::try_from(text.len()).ok()?;
    Some(digits(text)? * 10_u64.pow(missing))
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |value, &byte| byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0')))
}

/// The times of one text, in order.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    clock: Option<Clock>,
    /// The time of day of the line before, and the days that have passed.
    last: Option<u64>,
    days: u64,
    /// Whether the times may be relative, and whether each counts from the packet before.
    relative: bool,
    deltas: bool,
    now: u64,
}

impl Timeline {
    /// What the times mean; until there was one, nobody knows.
    pub(crate) fn clock(&self) -> Clock {
        self.clock.unwrap_or(Clock::TimeOfDay)
    }

    /// The time of the next packet, nanoseconds; `None` where it is of another kind than the first.
    pub(crate) fn next(&mut self, time: Time) -> Option<u64> {
        let clock = if matches!(time, Time::Epoch(_)) { Clock::Epoch } else { Clock::TimeOfDay };
        if *self.clock.get_or_insert(clock) != clock {
            return None;
        }
        match time {
            Time::Epoch(ns) => return Some(ns),
            Time::Before(ns) => {
                self.relative = true;
                self.now = self.now.saturating_sub(if self.deltas { ns } else { 0 });
            }
            Time::OfDay { ns, relative } => self.of_day(ns, relative),
        }
        Some(self.now)
    }

    fn of_day(&mut self, ns: u64, relative: bool) {
        let last = self.last.unwrap_or(ns);
        // Only relative times start at zero to the last digit.
        self.relative |= relative || (self.last.is_none() && ns == 0);
        if self.deltas {
            self.now = self.now.saturating_add(ns);
            return;
        }
        if ns + HALF_DAY < last {
            self.days += 1;
        } else if ns > last + HALF_DAY && self.days > 0 {
            // A straggler from before midnight.
            self.now = (self.days - 1).saturating_mul(DAY).saturating_add(ns);
            return;
        } else if ns < last && self.relative {
            // Times since the first packet do not go back: these were times since the packet before.
            self.deltas = true;
            self.now = self.now.saturating_add(ns);
            return;
        }
        self.last = Some(ns);
        self.now = self.days.saturating_mul(DAY).saturating_add(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(clocks: &[&str]) -> Vec<u64> {
        let mut line = Timeline::default();
        clocks.iter().map(|clock| line.next(time(clock.as_bytes()).unwrap()).unwrap()).collect()
    }

    #[test]
    fn forms() {
        let day = |ns| Some(Time::OfDay { ns, relative: false });
        assert_eq!(time(b"00:00:01.5"), day(1_500_000_000));
        assert_eq!(time(b"23:59:59.123456789"), day(86_399_123_456_789));
        assert_eq!(time(b"01:02:03"), day(3_723 * SECOND));
        assert_eq!(time(b"1700000000.000001"), Some(Time::Epoch(1_700_000_000_000_001_000)));
        assert_eq!(time(b"-00:00:00.5"), Some(Time::Before(500_000_000)));
        for none in [
            "24:00:00",
            "1:02:03.4",
            "01:02:03.",
            "01:02:03.1234567890",
            "00:11:22:33:44:55",
            "-",
            "1.5",
            "-1",
        ] {
            assert_eq!(time(none.as_bytes()), None, "{none}");
        }
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2024-02-29"), Some(19_782 * DAY));
        assert_eq!(date(b"02/29/2024"), Some(19_782 * DAY));
        for none in ["2024-13-01", "24-01-01", "20240101", "2024/01/01"] {
            assert_eq!(date(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn midnight_is_crossed_and_stragglers_stay_behind() {
        let [a, b, c, d] = times(&["23:59:59.9", "00:00:00.1", "23:59:59.95", "00:00:00.2"])[..] else {
            panic!()
        };
        assert_eq!([b - a, c - a, d - a], [200_000_000, 50_000_000, 300_000_000]);
    }

    #[test]
    fn late_packets_and_a_second_text_keep_their_times() {
        assert_eq!(times(&["12:00:01", "12:00:00"]), [43_201 * SECOND, 43_200 * SECOND]);
    }

    #[test]
    fn times_since_the_packet_before_add_up() {
        assert_eq!(
            times(&[
                "00:00:00.000000",
                "00:00:02.000000",
                "00:00:01.000000",
                "-00:00:00.500000",
                "00:00:03.000000"
            ]),
            [0, 2 * SECOND, 3 * SECOND, 2_500_000_000, 5_500_000_000]
        );
    }

    #[test]
    fn a_text_has_one_kind_of_time() {
        let mut line = Timeline::default();
        assert!(line.next(Time::Epoch(5)).is_some());
        assert_eq!(line.next(Time::OfDay { ns: 5, relative: false }), None);
        assert_eq!(line.clock(), Clock::Epoch);
    }
}
