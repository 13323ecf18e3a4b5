//! Times as access logs print them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Appends a time in UTC with milliseconds: `2026-11-20T10:47:00.123Z`. A time before 1970 is
/// printed as 1970 began.
pub(crate) fn write_utc(out: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / DAY);
    let second = seconds % DAY;
    digits(out, year, 4);
    for (before, value) in [(b'-', month), (b'-', day), (b'T', second / 3600)] {
        out.push(before);
        digits(out, value, 2);
    }
    for value in [second / 60 % 60, second % 60] {
        out.push(b':');
        digits(out, value, 2);
    }
    out.push(b'.');
    digits(out, u64::from(since.subsec_millis()), 3);
    out.push(b'Z');
}

/// The date, days after 1 January 1970 in the Gregorian calendar.
///
/// Counts in eras of 400 years that begin on 1 March, so that the leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + DAYS_BEFORE_1970;
    let (era, of_era) = (shifted / ERA, shifted % ERA);
    let leaps = of_era / (4 * 365) - of_era / CENTURY + of_era / (ERA - 1);
    let year = (of_era - leaps) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months from March have 31, 30, 31, 30, 31 days, over and over: 153 in five.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

fn digits(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + (value / 10_u64.pow(place) % 10) as u8);
    }
}

const DAY: u64 = 24 * 3600;
/// Days in 400 years, and in the 100 years of an era that end without a leap day.
const ERA: u64 = 146_097;
const CENTURY: u64 = 36_524;
/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_BEFORE_1970: u64 = 719_468;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn utc(seconds: u64, millis: u64) -> String {
        let mut out = Vec::new();
        let since = Duration::from_secs(seconds) + Duration::from_millis(millis);
        write_utc(&mut out, UNIX_EPOCH + since);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments() {
        assert_eq!(utc(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_399, 999), "2000-02-28T23:59:59.999Z");
        assert_eq!(utc(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(951_868_800, 7), "2000-03-01T00:00:00.007Z");
        assert_eq!(utc(1_724_788_810, 142), "2024-08-27T20:00:10.142Z");
        assert_eq!(utc(4_107_542_399, 0), "2100-02-28T23:59:59.000Z");
        assert_eq!(utc(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn before_the_epoch() {
        let mut out = Vec::new();
        write_utc(&mut out, UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(out, b"1970-01-01T00:00:00.000Z");
    }
}
