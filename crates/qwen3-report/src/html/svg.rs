//! What all plots have: a size, words, the names of the axes, and a shape for each line.

use maud::{Markup, html};

/// A plot's height, in units of its `viewBox`; so are the margins.
pub const HEIGHT: f64 = 250.0;
/// Room for the labels of the vertical axis.
pub const LEFT: f64 = 50.0;
/// Room for half a label.
pub const RIGHT: f64 = 14.0;
/// Room above.
pub const TOP: f64 = 16.0;
/// Room for the labels of the horizontal axis and its name.
pub const BOTTOM: f64 = 40.0;

/// How many lines have a colour and a shape of their own.
pub const STYLES: usize = 6;

/// A shape for each line, so that colour is not the only difference.
pub const MARKERS: &str = r#"<svg width="0" height="0" class="defs" aria-hidden="true"><defs>
<marker id="k0" viewBox="0 0 6 6" refX="3" refY="3" markerWidth="5" markerHeight="5" markerUnits="userSpaceOnUse"><circle class="s0" cx="3" cy="3" r="2.6"/></marker>
<marker id="k1" viewBox="0 0 6 6" refX="3" refY="3" markerWidth="6" markerHeight="6" markerUnits="userSpaceOnUse"><rect class="s1" x="1" y="1" width="4" height="4"/></marker>
<marker id="k2" viewBox="0 0 6 6" refX="3" refY="3" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse"><path class="s2" d="M3 .5L5.6 5.2L.4 5.2Z"/></marker>
<marker id="k3" viewBox="0 0 6 6" refX="3" refY="3" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse"><path class="s3" d="M3 .4L5.6 3L3 5.6L.4 3Z"/></marker>
<marker id="k4" viewBox="0 0 6 6" refX="3" refY="3" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse"><path class="s4" d="M.4 .8L5.6 .8L3 5.5Z"/></marker>
<marker id="k5" viewBox="0 0 6 6" refX="3" refY="3" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse"><path class="s5" d="M2 .5H4V2H5.5V4H4V5.5H2V4H.5V2H2Z"/></marker>
</defs></svg>
"#;

/// A coordinate with one decimal.
pub fn one(value: f64) -> String {
    format!("{value:.1}")
}

/// A word in the plot, anchored at a point.
pub fn label(class: &str, [x, y]: [f64; 2], anchor: &str, name: &str) -> Markup {
    html! { text class=(class) x=(one(x)) y=(one(y)) text-anchor=(anchor) { (name) } }
}

/// The names of both axes of a plot of this width.
pub fn axis_names(width: f64, x: &str, y: &str) -> Markup {
    let turned = format!("translate(12 {:.1}) rotate(-90)", (TOP + HEIGHT - BOTTOM) / 2.0);
    html! {
        (label("axis", [(LEFT + width - RIGHT) / 2.0, HEIGHT - 6.0], "middle", x))
        text.axis transform=(turned) text-anchor="middle" { (y) }
    }
}

/// The legend: the class of each line and what it is.
pub fn keys<'a>(lines: impl IntoIterator<Item = (String, &'a str)>) -> Markup {
    html! {
        p.keys {
            @for (class, name) in lines {
                span {
                    svg width="44" height="12" aria-hidden="true" { path class=(class) d="M4 6L22 6L40 6" {} }
                    " " (name)
                }
            }
        }
    }
}
