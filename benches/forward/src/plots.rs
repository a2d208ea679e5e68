//! Bars, one for each forwarder.

use std::path::Path;

use plotters::{
    chart::ChartBuilder,
    drawing::{DrawingAreaErrorKind, IntoDrawingArea},
    element::{Rectangle, Text},
    prelude::SVGBackend,
    style::{Color, IntoFont, RGBColor, WHITE},
};

use crate::{
    load::{Load, Shape, Way},
    report::{Report, is_usual},
    run::Run,
};

type Failure = DrawingAreaErrorKind<std::io::Error>;

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xb0, 0xb7, 0xbf);

/// One bar.
struct Bar {
    name: String,
    value: f64,
    ours: bool,
}

/// Draws all that there is something for; says the files' names and what they show.
pub(crate) fn all(report: &Report, directory: &Path) -> Result<Vec<(String, String)>, Failure> {
    let runs: Vec<_> = report.parts.iter().flat_map(|part| &part.runs).collect();
    let mut drawn = Vec::new();
    let mut draw = |file: &str, title: String, bars: Vec<Bar>| {
        if bars.is_empty() {
            return Ok(());
        }
        draw_bars(&directory.join(file), &title, &bars)?;
        drawn.push((file.to_owned(), title));
        Ok(())
    };
    for (file, way, shape) in [
        ("to-node-singles.svg", Way::ToNode, Shape::Singles),
        ("to-node-trains.svg", Way::ToNode, Shape::Trains),
        ("to-clients-singles.svg", Way::ToClients, Shape::Singles),
        ("to-clients-trains.svg", Way::ToClients, Shape::Trains),
    ] {
        let of_kind = |run: &&&Run| is_usual(&run.load, way, shape);
        let saturated = |run: &&&Run| run.load.rate.is_none();
        let bars = runs.iter().filter(of_kind).filter(saturated);
        let load = Load { way, shape, ..Load::USUAL };
        let title = format!("CPU per datagram, µs: {load}");
        draw(file, title, bars.filter_map(|run| bar(run, run.cpu_us)).collect())?;
    }
    let load = Load { rate: Some(130_000), ..Load::USUAL };
    let bars = runs.iter().filter(|run| run.load == load);
    let title = format!("CPU of the whole system per datagram, µs: {load}");
    draw("system.svg", title, bars.filter_map(|run| bar(run, run.system_us)).collect())?;
    let bars = report.latencies.iter().map(|latency| Bar {
        name: latency.forwarder.to_string(),
        value: latency.p99_us,
        ours: latency.forwarder.is_ours(),
    });
    let title = "Latency at half of what the floor forwards, p99, µs".to_owned();
    draw("latency.svg", title, bars.collect())?;
    Ok(drawn)
}

fn bar(run: &Run, value: Option<f64>) -> Option<Bar> {
    let (name, ours) = (run.forwarder.to_string(), run.forwarder.is_ours());
    Some(Bar { name, value: value?, ours })
}

fn draw_bars(file: &Path, title: &str, bars: &[Bar]) -> Result<(), Failure> {
    const ROW: u32 = 28;
    const NAMES: u32 = 190;
    let height = 90 + ROW * u32::try_from(bars.len()).unwrap_or(ROW);
    let area = SVGBackend::new(file, (760, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .set_left_and_bottom_label_area_size(0)
        .x_label_area_size(30)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..most * 1.12, 0.0..rows)?;
    chart.configure_mesh().disable_y_mesh().x_max_light_lines(1).y_labels(0).draw()?;
    for (row, bar) in (0_u32..).zip(bars) {
        let (bottom, top) = (rows - f64::from(row) - 0.85, rows - f64::from(row) - 0.15);
        let colour = if bar.ours { OURS } else { OTHERS };
        let bar_area = Rectangle::new([(0.0, bottom), (bar.value, top)], colour.filled());
        chart.draw_series([bar_area])?;
        let font = ("sans-serif", 13).into_font();
        let text = format!("{:.2}", bar.value);
        chart.draw_series([Text::new(
            text,
            (bar.value + most * 0.01, top - 0.15),
            font.clone(),
        )])?;
        let (_, y) = chart.backend_coord(&(0.0, top - 0.15));
        area.draw_text(&bar.name, &font.into(), (10, y))?;
    }
    area.present()
}
