//! What all plots have: a height, words, the names of the axes, and a shape for each line.
//!
//! Heights are in pixels and widths in per cent, so that words are as large as the page's in a plot of any width.

use maud::{Markup, html};

/// A plot's height in pixels.
pub const HEIGHT: f64 = 250.0;
/// Room above the lines.
pub const TOP: f64 = 16.0;
/// Room for the labels of the horizontal axis and its name.
pub const BOTTOM: f64 = 40.0;
/// How wide the lines' area is on a telephone, in pixels: labels do not collide there.
pub const NARROW: f64 = 270.0;

/// How many lines have a colour and a shape of their own.
pub const STYLES: usize = 6;

/// A shape around the origin for each line, so that colour is not the only difference.
pub const MARKERS: &str = r#"<svg width="0" height="0" class="defs" aria-hidden="true"><defs>
<circle id="k0" r="2.4"/>
<rect id="k1" x="-2.3" y="-2.3" width="4.6" height="4.6"/>
<path id="k2" d="M0-3L3 2.5L-3 2.5Z"/>
<path id="k3" d="M0-3.2L3.2 0L0 3.2L-3.2 0Z"/>
<path id="k4" d="M-3-2.5L3-2.5L0 3Z"/>
<path id="k5" d="M-1.1-3H1.1V-1.1H3V1.1H1.1V3H-1.1V1.1H-3V-1.1H-1.1Z"/>
</defs></svg>
"#;

/// A coordinate with one decimal.
pub fn one(value: f64) -> String {
    format!("{value:.1}")
}

/// How far to the right, in per cent of the area.
pub fn per_cent(value: f64) -> String {
    format!("{value:.2}%")
}

/// A plot around its contents; `name` is what it is to those who do not see it.
pub fn plot(name: &str, body: &Markup) -> Markup {
    html! {
        div.plot {
            svg width="100%" height=(HEIGHT) role="img" aria-label=(name) { (body) }
        }
    }
}

/// Lines whose paths have their x in per cent, over the whole area.
pub fn stretched(paths: &Markup) -> Markup {
    html! {
        svg width="100%" height=(HEIGHT) viewBox={ "0 0 100 " (HEIGHT) } preserveAspectRatio="none" { (paths) }
    }
}

/// The mark of a line's style at a point.
pub fn marker(style: usize, class: &str, x: f64, y: f64) -> Markup {
    html! { use href={ "#k" (style) } class={ "s" (style) (class) } x=(per_cent(x)) y=(one(y)) {} }
}

/// A level line over the whole area.
pub fn level(class: &str, y: f64) -> Markup {
    html! { line class=(class) x2="100%" y1=(one(y)) y2=(one(y)) {} }
}

/// A word below the area, under a point.
pub fn below(class: &str, x: f64, name: &str) -> Markup {
    let y = one(HEIGHT - BOTTOM + 15.0);
    html! { text class=(class) x=(per_cent(x)) y=(y) text-anchor="middle" { (name) } }
}

/// A word to the left of the area, beside a height.
pub fn beside(y: f64, name: &str) -> Markup {
    html! { text.tick x="-6" y=(one(y + 4.0)) text-anchor="end" { (name) } }
}

/// The names of both axes.
pub fn axis_names(x: &str, y: &str) -> Markup {
    let turned = format!("translate(-38 {:.1}) rotate(-90)", (TOP + HEIGHT - BOTTOM) / 2.0);
    html! {
        text.axis x="50%" y=(one(HEIGHT - 6.0)) text-anchor="middle" { (x) }
        text.axis transform=(turned) text-anchor="middle" { (y) }
    }
}

/// An entry of a legend: the class of a line, its marker's style where it has one, and what it is.
pub type Key<'a> = (String, Option<usize>, &'a str);

/// The legend.
pub fn keys<'a>(lines: impl IntoIterator<Item = Key<'a>>) -> Markup {
    html! {
        p.keys {
            @for (class, style, name) in lines {
                span {
                    svg width="36" height="12" aria-hidden="true" {
                        path class=(class) d="M0 6H36" {}
                        @if let Some(style) = style { (marker(style, "", 50.0, 6.0)) }
                    }
                    " " (name)
                }
            }
        }
    }
}
