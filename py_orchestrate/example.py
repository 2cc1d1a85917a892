"""A small example: look up a user and send a mail, durably. Run it with ``python -m py_orchestrate.example``."""

from __future__ import annotations

from typing import Any

from py_orchestrate import Orchestrator, activity, workflow


@activity("fetch_user")
def fetch_user(user_id: int) -> dict[str, Any]:
    """Fetch a user's data; stands in for a query."""
    return {"id": user_id, "name": f"User{user_id}", "email": f"user{user_id}@example.com"}


@activity("send_email")
def send_email(
    user: dict[str, Any],
    subject: str,
    body: str,  # noqa: ARG001 - nothing is really sent
) -> dict[str, Any]:
    """Send a mail to a user; stands in for a mail server."""
    print(f"Sending email to {user['email']}: {subject}")
    return {"sent": True, "recipient": user["email"], "subject": subject}


@workflow("user_notification")
def user_notification_workflow(user_id: int, message: str) -> dict[str, Any]:
    """Fetch the user, then notify them. If the process dies in between, the user is not fetched again."""
    user = fetch_user(user_id)
    email_result = send_email(user=user, subject="Important Notification", body=message)
    return {"user_notified": True, "user": user, "email_result": email_result}


def main() -> None:
    """Run the workflow once, and say how it ended."""
    orchestrator = Orchestrator("example.db")
    orchestrator.start()
    try:
        workflow_id = orchestrator.invoke_workflow(
            "user_notification", user_id=123, message="Your account has been updated successfully!"
        )
        print(f"Started workflow: {workflow_id}")
        status = orchestrator.wait_for_workflow(workflow_id)
        print(f"Status: {status['status']}")
        if status["status"] == "done":
            print(f"Result: {status['output']}")
        else:
            print(f"Error: {status['error_message']}")
    finally:
        orchestrator.stop()


if __name__ == "__main__":
    main()
