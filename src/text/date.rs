//! Today's date for templates that ask for it, in UTC: the system's zone would
//! need a table this library does not carry.

use minijinja::{Error, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A time by the directives of C's `strftime`.
pub(super) fn format(format: &str, seconds: u64) -> Result<String, Error> {
    if format.len() > 256 {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a date format of more than 256 bytes",
        ));
    }
    let days = seconds / 86_400;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = civil(days);
    let weekday = DAYS[(days + 4) as usize % 7];
    let month_name = MONTHS[month as usize - 1];
    let year_day = 1 + days - first_of_year(year);
    let half_day = |hour: u64| if hour.is_multiple_of(12) { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let bare = directive == Some('-');
        if bare {
            directive = chars.next();
        }
        let mut number = |value: u64, width: usize| {
            let width = if bare { 0 } else { width };
            out.push_str(&format!("{value:0width$}"));
        };
        match directive {
            Some('Y') => number(year, 4),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('H') => number(hour, 2),
            Some('I') => number(half_day(hour), 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('j') => number(year_day, 3),
            Some('e') => out.push_str(&format!("{day:2}")),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(weekday),
            Some('a') => out.push_str(&weekday[..3]),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('F') => out.push_str(&format!("{year:04}-{month:02}-{day:02}")),
            Some('T') => out.push_str(&format!("{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => out.push_str("UTC"),
            Some('z') => out.push_str("+0000"),
            Some('%') => out.push('%'),
            other => {
                let what =
                    format!("the date directive %{}", other.map(String::from).unwrap_or_default());
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
    }
    Ok(out)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970 to the start of a year.
fn first_of_year(year: u64) -> u64 {
    let past = year - 1;
    (year - 1970) * 365 + (past / 4 - past / 100 + past / 400)
        - (1969 / 4 - 1969 / 100 + 1969 / 400)
}

/// Year, month and day of the month of a day since 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while first_of_year(year + 1) <= days {
        year += 1;
    }
    let mut day = days - first_of_year(year);
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        let cases = [
            (0, "1970-01-01 Thu Thursday 001"),
            (951_782_400, "2000-02-29 Tue Tuesday 060"),
            (951_868_800, "2000-03-01 Wed Wednesday 061"),
            (1_735_603_200, "2024-12-31 Tue Tuesday 366"),
            (1_735_689_600, "2025-01-01 Wed Wednesday 001"),
            (4_107_542_400, "2100-03-01 Mon Monday 060"),
        ];
        for (seconds, want) in cases {
            assert_eq!(format("%Y-%m-%d %a %A %j", seconds).expect("known directives"), want);
        }
        assert_eq!(
            format("%-d %b %y, %I:%M %p, %e%%", 1_735_693_445).expect("known directives"),
            "1 Jan 25, 01:04 AM,  1%"
        );
        assert!(format("%Q", 0).is_err());
        assert!(format("%", 0).is_err());
    }
}
