//! Distances on Earth.

use crate::records::Location;

/// Earth's mean radius.
const RADIUS_KM: f64 = 6371.0;

/// A place as a point on the unit sphere, so that a distance is a few multiplications.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point([f64; 3]);

impl Point {
    /// Where a location is.
    #[must_use]
    pub fn of(location: Location) -> Self {
        let (latitude, longitude) =
            (location.latitude.to_radians(), location.longitude.to_radians());
        let around = latitude.cos();
        Self([around * longitude.cos(), around * longitude.sin(), latitude.sin()])
    }

    /// The distance along the surface, in whole kilometres. The haversine of the angle between two points
    /// is a quarter of their squared distance through the Earth.
    #[must_use]
    pub fn km(self, other: Self) -> u32 {
        let squares = self.0.iter().zip(other.0).map(|(one, other)| (one - other).powi(2));
        let haversine = (squares.sum::<f64>() / 4.0).clamp(0.0, 1.0);
        let km = 2.0 * RADIUS_KM * haversine.sqrt().asin();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 0 and half of Earth's circumference"
        )]
        let km = km as u32;
        km
    }
}

impl Location {
    /// The way along the surface, in kilometres.
    #[must_use]
    pub fn km_to(self, other: Self) -> f64 {
        Point::of(self).km(Point::of(other)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(latitude: f64, longitude: f64) -> Location {
        Location { latitude, longitude }
    }

    /// As textbooks write it.
    fn haversine_km(a: Location, b: Location) -> f64 {
        let latitude = (b.latitude - a.latitude).to_radians();
        let longitude = (b.longitude - a.longitude).to_radians();
        let (cos_a, cos_b) = (a.latitude.to_radians().cos(), b.latitude.to_radians().cos());
        let h = (latitude / 2.0).sin().powi(2) + cos_a * cos_b * (longitude / 2.0).sin().powi(2);
        2.0 * RADIUS_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }

    #[test]
    fn cities_are_as_far_from_each_other_as_maps_say() {
        let km = |a, b| Point::of(a).km(Point::of(b));
        let (berlin, paris) = (place(52.52, 13.405), place(48.8566, 2.3522));
        let (sydney, auckland) = (place(-33.87, 151.21), place(-36.85, 174.76));
        assert!((870..=885).contains(&km(berlin, paris)), "{}", km(berlin, paris));
        assert!((2140..=2170).contains(&km(sydney, auckland)), "{}", km(sydney, auckland));
        assert_eq!(km(berlin, berlin), 0);
        assert!((20_000..=20_020).contains(&km(place(90.0, 0.0), place(-90.0, 77.0))));
        assert!(km(place(0.0, 179.9), place(0.0, -179.9)) < 25, "across the date line");
    }

    proptest::proptest! {
        #[test]
        fn a_distance_is_the_haversine_formulas(
            a in (-90.0..=90.0f64, -180.0..=180.0f64),
            b in (-90.0..=90.0f64, -180.0..=180.0f64),
        ) {
            let (a, b) = (place(a.0, a.1), place(b.0, b.1));
            let (ours, theirs) = (f64::from(Point::of(a).km(Point::of(b))), haversine_km(a, b));
            proptest::prop_assert!((ours - theirs).abs() <= 1.01, "{} and {}", ours, theirs);
        }
    }
}
