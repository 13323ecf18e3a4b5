//! `metadata.creationTimestamp`: a point in time in RFC 3339 form.

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i128);

/// The text is not a time such as `2024-05-01T12:00:00Z`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time in RFC 3339 form")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// Reads `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)`.
    ///
    /// # Errors
    /// When the text has another form or names a day, hour, minute or second that does not exist.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        parse(text).map(Self).ok_or_else(|| InvalidTimestamp(text.to_owned()))
    }

    /// Nanoseconds since the epoch.
    pub fn nanoseconds(self) -> i128 {
        self.0
    }
}

fn parse(text: &str) -> Option<i128> {
    if !text.is_ascii() {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
    };
    let sign = |at: usize, allowed: &str| text.get(at..=at).filter(|c| allowed.contains(*c));
    sign(4, "-")?;
    sign(7, "-")?;
    sign(10, "Tt ")?;
    sign(13, ":")?;
    sign(16, ":")?;
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            if length == 0 { return None } else { rest.split_at(length) }
        }
        None => ("", rest),
    };
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
        {
            let digit = |b: &u8| i64::from(b - b'0');
            let minutes = (digit(h1) * 10 + digit(h2)) * 60 + digit(m1) * 10 + digit(m2);
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    let mut nanoseconds = 0_i128;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        nanoseconds = nanoseconds * 10 + i128::from(digit - b'0');
    }
    Some(i128::from(seconds) * 1_000_000_000 + nanoseconds)
}

/// Days since 1970-01-01 of a Gregorian date; years run from March so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}
