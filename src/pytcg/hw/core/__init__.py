"""What every PC has: timers, interrupt controllers, UART, RTC, power management."""
