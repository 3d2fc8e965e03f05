//! Medians, spreads and ratios; a table for people and JSON for machines.

use serde_json::{Value, json};

use super::lane::Middle;

/// One line of figures: the same thing measured with different middles, in turns.
#[derive(Debug)]
pub struct Row {
    title: String,
    unit: &'static str,
    placement: &'static str,
    figures: Vec<(Middle, Vec<f64>)>,
    goals: Vec<Goal>,
}

/// What a ratio is to reach.
#[derive(Debug, Clone, Copy)]
pub struct Goal {
    /// Whose figure,
    pub of: Middle,
    /// divided by whose,
    pub by: Middle,
    /// is at least this,
    pub floor: f64,
    /// and better this. For times, which are better small, aim is below floor.
    pub aim: f64,
}

impl Row {
    /// An empty row.
    pub fn new(title: impl Into<String>, unit: &'static str, placement: &'static str) -> Row {
        Row {
            title: title.into(),
            unit,
            placement,
            figures: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// With goals.
    #[must_use]
    pub fn goals(mut self, goals: &[Goal]) -> Row {
        self.goals.extend(goals);
        self
    }

    /// Adds the figure of one repetition.
    pub fn add(&mut self, middle: Middle, figure: f64) {
        match self.figures.iter_mut().find(|(known, _)| *known == middle) {
            Some((_, figures)) => figures.push(figure),
            None => self.figures.push((middle, vec![figure])),
        }
    }

    /// Lines for people: medians with their spread, then ratios with theirs.
    pub fn text(&self) -> String {
        let mut text = format!("{}, {}\n  ({})\n", self.title, self.unit, self.placement);
        let first = self.figures.first().map(|(middle, _)| *middle);
        for (middle, figures) in &self.figures {
            let spread = Spread::of(figures);
            text += &format!(
                "  {:<23} {:>9} {:<22}",
                middle.name(),
                short(spread.median),
                spread.range()
            );
            match first
                .filter(|first| first != middle)
                .and_then(|by| self.ratio(*middle, by))
            {
                Some(ratio) => text += &format!(" {:>5.2} x {}\n", ratio.median, ratio.range()),
                None => text += "     1\n",
            }
        }
        for goal in &self.goals {
            let Some(ratio) = self.ratio(goal.of, goal.by) else {
                continue;
            };
            text += &format!(
                "  -> {} / {} = {:.2} {}: {} (floor {}, aim {})\n",
                goal.of.name(),
                goal.by.name(),
                ratio.median,
                ratio.range(),
                goal.verdict(ratio.median),
                goal.floor,
                goal.aim
            );
        }
        text
    }

    /// All that was measured.
    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|(middle, figures)| {
                let spread = Spread::of(figures);
                json!({ "middle": middle.name(), "median": spread.median, "least": spread.least,
                        "most": spread.most, "samples": figures })
            })
            .collect();
        let ratios: Vec<Value> = self
            .goals
            .iter()
            .filter_map(|goal| {
                let ratio = self.ratio(goal.of, goal.by)?;
                Some(
                    json!({ "of": goal.of.name(), "by": goal.by.name(), "median": ratio.median,
                             "least": ratio.least, "most": ratio.most, "floor": goal.floor,
                             "aim": goal.aim, "verdict": goal.verdict(ratio.median) }),
                )
            })
            .collect();
        json!({ "title": self.title, "unit": self.unit, "placement": self.placement,
                "figures": figures, "ratios": ratios })
    }

    /// Repetition by repetition: what disturbs one of them disturbs both sides of its ratio.
    fn ratio(&self, of: Middle, by: Middle) -> Option<Spread> {
        let figures = |middle| Some(&self.figures.iter().find(|(known, _)| *known == middle)?.1);
        let pairs = figures(of)?.iter().zip(figures(by)?);
        Some(Spread::of(
            &pairs.map(|(of, by)| of / by).collect::<Vec<f64>>(),
        ))
    }
}

impl Goal {
    /// A goal for the figure of one, divided by that of another.
    pub const fn new(of: Middle, by: Middle, floor: f64, aim: f64) -> Goal {
        Goal { of, by, floor, aim }
    }

    fn verdict(&self, ratio: f64) -> &'static str {
        let reaches = |goal| {
            if self.aim < self.floor {
                ratio <= goal
            } else {
                ratio >= goal
            }
        };
        match (reaches(self.aim), reaches(self.floor)) {
            (true, _) => "aim reached",
            (_, true) => "floor reached",
            _ => "BELOW THE FLOOR",
        }
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(figures: &[f64]) -> Spread {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        let upper = sorted.len() / 2;
        let lower = sorted.len().saturating_sub(1) / 2;
        Spread {
            least: at(0),
            median: f64::midpoint(at(lower), at(upper)),
            most: at(sorted.len().saturating_sub(1)),
        }
    }

    fn range(&self) -> String {
        format!("[{}..{}]", short(self.least), short(self.most))
    }
}

/// Three or four digits.
fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 1e6 => format!("{:.2} M", figure / 1e6),
        size if size >= 1e4 => format!("{:.1} k", figure / 1e3),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_paired_ratios() {
        let mut row =
            Row::new("t", "u", "p").goals(&[Goal::new(Middle::Nat, Middle::Kernel, 0.5, 0.9)]);
        for (kernel, nat) in [(10.0, 8.0), (100.0, 60.0), (1000.0, 700.0)] {
            row.add(Middle::Kernel, kernel);
            row.add(Middle::Nat, nat);
        }
        let ratio = row.ratio(Middle::Nat, Middle::Kernel).unwrap();
        assert!((ratio.median - 0.7).abs() < 1e-9);
        assert!((ratio.least - 0.6).abs() < 1e-9 && (ratio.most - 0.8).abs() < 1e-9);
        assert!(row.text().contains("floor reached"));
        assert_eq!(row.json()["ratios"][0]["verdict"], "floor reached");
    }

    #[test]
    fn times_are_better_small() {
        let goal = Goal::new(Middle::Nat, Middle::Kernel, 3.0, 2.0);
        assert_eq!(goal.verdict(1.5), "aim reached");
        assert_eq!(goal.verdict(2.5), "floor reached");
        assert_eq!(goal.verdict(3.5), "BELOW THE FLOOR");
    }
}
