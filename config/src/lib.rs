//! What an operator writes: settings with units and defaults, every problem at once.
