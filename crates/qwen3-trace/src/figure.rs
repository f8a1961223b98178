/// A number for people, with three digits: as it is where that is short, and with an exponent only where it is not.
pub fn figure(value: f64) -> String {
    let digits = |decimals: usize| format!("{value:.decimals$}");
    match value.abs() {
        _ if !value.is_finite() => "not finite".into(),
        0.0 => "0".into(),
        size if !(0.000_999_5..99_950.0).contains(&size) => format!("{value:.2e}"),
        size if size >= 99.95 => digits(0),
        size if size >= 9.995 => digits(1),
        size if size >= 0.9995 => digits(2),
        size if size >= 0.099_95 => digits(3),
        size if size >= 0.009_995 => digits(4),
        _ => digits(5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_for_what_is_very_large_or_small() {
        for (value, shown) in [
            (0.0, "0"),
            (1.0, "1.00"),
            (-4.722, "-4.72"),
            (0.52, "0.520"),
            (0.012_34, "0.0123"),
            (0.001, "0.00100"),
            (9.996, "10.0"),
            (99.96, "100"),
            (1234.5, "1234"),
            (99_949.0, "99949"),
            (99_951.0, "1.00e5"),
            (7.221e-6, "7.22e-6"),
            (f64::NAN, "not finite"),
        ] {
            assert_eq!(figure(value), shown);
        }
        // Nothing in between says `e0`.
        let values = (-400..600).map(|tenth| 10_f64.powf(f64::from(tenth) / 100.0));
        assert!(values.map(figure).all(|shown| !shown.ends_with("e0") && shown.len() <= 8));
    }
}
