"""The stream loop: the one place that knows Faust and aiokafka and what they lose."""
