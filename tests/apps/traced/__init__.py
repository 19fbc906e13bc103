"""An app that traces its bench, as a team with OpenTelemetry or Sentry does."""
