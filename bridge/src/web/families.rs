//! Writes families of metrics, one after another.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// A family's name without prefix, unit and the suffix of its kind; what it is; its unit.
pub(super) type Title = (&'static str, &'static str, Option<Unit>);

/// The families of a page. One without samples is left out.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// A number.
    pub(super) fn gauge(&mut self, title: Title, value: impl EncodeGaugeValue) -> fmt::Result {
        let (name, help, unit) = title;
        let unit = unit.as_ref();
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A number that only rises, until the next start.
    pub(super) fn counter(&mut self, title: Title, value: u64) -> fmt::Result {
        let (name, help, unit) = title;
        let unit = unit.as_ref();
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// Numbers by labels.
    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        (name, help, unit): Title,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let unit = unit.as_ref();
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Numbers by labels that only rise, until the next start.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        (name, help, unit): Title,
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let unit = unit.as_ref();
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    /// Words that do not change.
    pub(super) fn info<L: EncodeLabelSet>(
        &mut self,
        (name, help): (&'static str, &'static str),
        samples: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        for labels in samples {
            family.encode_info(&labels)?;
        }
        Ok(())
    }
}
