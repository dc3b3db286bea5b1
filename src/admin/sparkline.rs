//! Small pictures of the status page as SVG. They use attributes only, because the policy of the page forbids inline
//! style.

use maud::{Markup, html};

const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 20.0;

/// A line of rates, oldest first. Its right end is now.
pub(super) fn sparkline(rates: &[f64]) -> Markup {
    let most = rates.iter().copied().fold(0.0, f64::max);
    let step = WIDTH / (super::history::SAMPLES - 1) as f64;
    let first = WIDTH - step * rates.len().saturating_sub(1) as f64;
    let y = |rate: f64| if most > 0.0 { (HEIGHT - 2.0) * (1.0 - rate / most) + 1.0 } else { HEIGHT - 1.0 };
    let point = |(at, rate): (usize, &f64)| format!("{:.0},{:.0}", first + step * at as f64, y(*rate));
    let points: Vec<_> = rates.iter().enumerate().map(point).collect();
    html! {
        @if rates.len() > 1 {
            svg width=(WIDTH) height=(HEIGHT) role="img" aria-label={ "at most " (figure(most)) " per second" } {
                polyline points=(points.join(" ")) {}
            }
        }
    }
}

/// A bar of the measured share, with the share by weight as a tick.
pub(super) fn share(measured: Option<f64>, by_weight: f64) -> Markup {
    let text = measured.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let tick = format!("{:.0}", by_weight * 100.0);
    html! {
        svg width="100" height="10" role="img" aria-label={ "measured " (text) ", by weight " (tick) " %" } {
            rect .track width="100" height="10" rx="3" {}
            rect .bar width=(format!("{:.0}", measured.unwrap_or(0.0) * 100.0)) height="10" rx="3" {}
            line .tick x1=(tick) x2=(tick) y1="0" y2="10" {}
        }
        " " span.dim { (text) }
    }
}

/// A number with at most one decimal.
pub(super) fn figure(value: f64) -> String {
    if value >= 10.0 || value == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
